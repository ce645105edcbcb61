package search

import (
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// A naming is a list of which each item names somebody or some place, and may say
// for what time.
type naming struct{ list, who string }

// namings are the lists that access policies ask about.
// https://hl7.org/fhir/R4/careteam-definitions.html#CareTeam.participant.period
// https://hl7.org/fhir/R4/encounter-definitions.html#Encounter.participant.period
// https://hl7.org/fhir/R4/encounter-definitions.html#Encounter.location.status
var namings = map[fhir.Type][]naming{
	"CareTeam":  {{"participant", "member"}},
	"Encounter": {{"participant", "individual"}, {"location", "location"}},
}

func (n naming) path(on fhir.Type) Path { return Path(string(on) + "." + n.list + "." + n.who) }

// limited is the path of who is named for a time only: a token says that there is
// a limit, and numbers, in seconds since 1970, when that time is. Where nobody is,
// as mostly, the index holds nothing for it.
func limited(path Path) Path { return path + "$limited" }

// named indexes who is named for a time only.
func (x *indexer) named(on fhir.Type) {
	for _, n := range namings[on] {
		path, items := limited(n.path(on)), x.root.GetArray(n.list)
		some := map[string]bool{}
		for _, item := range items {
			if who := x.who(n, item); who != "" && isLimited(item) && !x.full() {
				some[who] = true
				x.token(path, who)
				if lo, hi, ok := timeOf(item); ok {
					x.terms.Numbers = append(x.terms.Numbers, NumberRange{path, who, seconds(lo), seconds(hi)})
				}
			}
		}
		for _, item := range items {
			if who := x.who(n, item); some[who] && !isLimited(item) && !x.full() { // once without a limit, too
				x.terms.Numbers = append(x.terms.Numbers, NumberRange{path, who, seconds(time.Time{}), seconds(Forever)})
			}
		}
	}
}

// who returns whom the item names, as the index has references.
func (x *indexer) who(n naming, item value) string {
	ref := text(item.Get(n.who, "reference"))
	if ref == "" || ref[0] == '#' {
		return ""
	}
	return relative(ref, x.schema.Base)
}

// isLimited reports whether the item says when it holds, or that it does not.
func isLimited(item value) bool { return item.Exists("period") || notThere(item) }

// notThere reports whether a patient is yet to come to a location, or has left.
// https://hl7.org/fhir/R4/valueset-encounter-location-status.html
func notThere(item value) bool {
	switch text(item.Get("status")) {
	case "", "active":
		return false
	}
	return true
}

// timeOf returns when the item holds. It is false if that is never, or cannot be
// told.
func timeOf(item value) (lo, hi time.Time, ok bool) {
	if notThere(item) {
		return lo, hi, false
	}
	return Period(text(item.Get("period", "start")), text(item.Get("period", "end")))
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }

// named returns the condition that a resource names the target by the path, in an
// item whose time covers at or that sets none.
func named(path Path, target fhir.Ref, at time.Time) Expr {
	limit := limited(path)
	return And{
		HasReference{Path: path, Target: target.String()},
		Or{
			Not{HasToken{limit, target.String()}},
			InNumber{limit, target.String(), []NumberBound{{Lo, LE, seconds(at)}, {Hi, GT, seconds(at)}}},
		},
	}
}
