// Package demo writes the records of people who never were, for trying the
// server and for measuring it.
//
// The same seed gives the same bytes, on every machine and in every release
// that does not say otherwise. Ids are short and known beforehand: patients
// p1, p2, …, practitioners dr1 to dr4, so that a page of documentation can
// name them. Shapes follow US Core; telephone numbers, identifiers and mail
// addresses are from the ranges that are never given to anyone.
//
// https://hl7.org/fhir/us/core/
package demo

import (
	"iter"
	"math/rand/v2"
	"strconv"
	"time"
)

// Today is the day on which the records end.
var Today = time.Date(2026, time.June, 30, 0, 0, 0, 0, eastern)

// eastern is the offset in which the clinics write their times. The records
// keep to winter time, so that they do not depend on a zone database.
var eastern = time.FixedZone("", -5*60*60)

// Bundles yields transaction Bundles that PUT the records: first one of what
// the patients share (organizations, locations, practitioners), then one for
// each patient. They are to be sent in this order, and may be sent again.
func Bundles(seed uint64, patients int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !yield(transaction(clinic())) {
			return
		}
		for i := 1; i <= patients; i++ {
			// Each patient has a source of his own: the first ten are the same
			// people whether ten are asked for or a thousand.
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			if !yield(transaction(record(r, i))) {
				return
			}
		}
	}
}

// Staff returns a Bundle of those who work at the clinic and treat nobody.
func Staff() []byte {
	biller := practitioner{"billing1", "Priya", "Vance", "female", "9914005001", code{nucc, "171M00000X", "Case Manager/Care Coordinator"}}
	return transaction([]object{biller.resource()})
}

// PatientID returns the id of the i-th patient, counted from 1.
func PatientID(i int) string { return "p" + strconv.Itoa(i) }

// transaction returns the JSON of a transaction Bundle that PUTs the resources.
// https://hl7.org/fhir/R4/http.html#transaction
func transaction(resources []object) []byte {
	entries := make(array, len(resources))
	for i, r := range resources {
		url := r.text("resourceType") + "/" + r.text("id")
		entries[i] = obj("resource", r, "request", obj("method", "PUT", "url", url))
	}
	return appendJSON(nil, obj("resourceType", "Bundle", "type", "transaction", "entry", entries))
}
