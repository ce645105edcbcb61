package rest

import (
	"math"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Whether two records are of one person is weighed as Fellegi and Sunter do: each
// trait that both have adds the logarithm of how much likelier what is seen is for
// one person (m) than for two (u). The sum, with the odds that a record taken at
// random is the person's, gives the probability that it is.
// https://doi.org/10.1080/01621459.1969.10501049

// An agreement says how far two records agree in a trait.
type agreement int

const (
	unsaid agreement = iota // at least one does not say
	contradicts
	similar
	agrees
)

// A chance is how often an agreement is seen in two records of one person, and in
// those of two persons.
type chance struct{ m, u float64 }

func (c chance) bits() float64 { return math.Log2(c.m / c.u) }

// The chances are constants of the order that linkage studies report for names and
// dates with the usual errors; docs/operations-fhir.md says what each stands for and what
// they achieve. Nothing in them is of a tenant, so that a score tells nothing of who
// else is there.
var (
	ofFamily    = map[agreement]chance{agrees: {.92, .005}, similar: {.05, .01}, contradicts: {.03, .985}}
	ofGiven     = map[agreement]chance{agrees: {.90, .01}, similar: {.07, .02}, contradicts: {.03, .97}}
	ofBirthDate = map[agreement]chance{agrees: {.95, 5e-5}, similar: {.02, .0002}, contradicts: {.015, .997}}
	ofGender    = map[agreement]chance{agrees: {.98, .5}, contradicts: {.02, .5}}
	ofSuffix    = map[agreement]chance{agrees: {.9, .5}, contradicts: {.01, .5}}
	// Who lives together shares these, and the name.
	ofContact = map[agreement]chance{agrees: {.5, .02}, contradicts: {.5, .98}}
	ofAddress = map[agreement]chance{agrees: {.6, .02}, similar: {.2, .1}, contradicts: {.2, .88}}

	ofIdentifier = map[agreement]chance{agrees: {.97, 1e-10}, contradicts: {.03, 1}}
)

var (
	// aTwin takes the place of an equal birth date where the given names
	// contradict and something of a household agrees.
	aTwin = chance{.95, .03}
	// borrowed takes the place of an equal identifier where the name or the birth
	// date contradicts: numbers are mistyped, and those of parents used for children.
	borrowed = chance{.97, 1e-4}
	// random is the odds that a record taken at random is the one: one in a
	// million.
	random = chance{1, 1 << 20}
)

// The least probabilities of the grades. What is below is certainly-not, and is
// not shown.
// https://hl7.org/fhir/R4/valueset-match-grade.html
const (
	sure     = 0.999
	probable = 0.5
	possible = 0.01
	// unsure is the most that a match scores which is not certain.
	unsure = 0.99
)

// A comparison says how far two records agree, trait by trait.
type comparison struct {
	family, given, birthDate, gender, suffix, contact, address, identifier agreement
}

// A personMatch is a patient who may be the one, with the probability of it.
type personMatch struct {
	fhir.Resource
	score   float64
	certain bool
}

func (m personMatch) grade() string {
	switch {
	case m.certain:
		return "certain"
	case m.score >= probable:
		return "probable"
	}
	return "possible"
}

// compare holds two records against each other. It is the same both ways.
func (t traits) compare(other traits) comparison {
	c := comparison{
		family: alike(t.families, other.families), given: alike(t.givens, other.givens),
		birthDate: sameDate(t.birthDate, other.birthDate),
		suffix:    shared(t.suffixes, other.suffixes), contact: shared(t.contacts, other.contacts),
		address: t.sameAddress(other), identifier: t.sameIdentifier(other),
	}
	if c.family == contradicts && c.given == contradicts &&
		alike(t.families, other.givens) == agrees && alike(t.givens, other.families) == agrees {
		c.family, c.given = similar, similar // one for the other
	}
	if t.gender != "" && other.gender != "" && t.gender != "unknown" && other.gender != "unknown" {
		c.gender = contradicts
		if t.gender == other.gender {
			c.gender = agrees
		}
	}
	return c
}

// match weighs what was compared.
func (c comparison) match() personMatch {
	bits := random.bits()
	for _, one := range []struct {
		is agreement
		of map[agreement]chance
	}{
		{c.family, ofFamily}, {c.given, ofGiven}, {c.gender, ofGender},
		{c.suffix, ofSuffix}, {c.contact, ofContact}, {c.address, ofAddress},
	} {
		if one.is != unsaid {
			bits += one.of[one.is].bits()
		}
	}
	switch household := c.family == agrees || c.contact == agrees || c.address == agrees; {
	case c.birthDate == agrees && c.given == contradicts && household:
		bits += aTwin.bits()
	case c.birthDate != unsaid:
		bits += ofBirthDate[c.birthDate].bits()
	}
	switch {
	case c.identifier == agrees && (c.given == contradicts || c.birthDate == contradicts):
		bits += borrowed.bits()
	case c.identifier != unsaid:
		bits += ofIdentifier[c.identifier].bits()
	}
	m := personMatch{score: 1 / (1 + math.Exp2(-bits))}
	if c.identifier == agrees { // somebody should look
		m.score = max(m.score, possible)
	}
	if m.certain = m.score >= sure && c.mayBeCertain(); !m.certain {
		m.score = min(m.score, unsure)
	}
	return m
}

// mayBeCertain reports whether a program may take the two for one person without
// anybody having looked: nothing contradicts it, and either an identifier says so
// or name, birth date, and a phone, mail or postal address all do. A probability
// alone would let likely twins and namesakes pass.
func (c comparison) mayBeCertain() bool {
	for _, one := range []agreement{c.family, c.given, c.birthDate, c.gender, c.suffix, c.identifier} {
		if one == contradicts {
			return false
		}
	}
	all := c.family == agrees && c.given == agrees && c.birthDate == agrees && (c.contact == agrees || c.address == agrees)
	return c.identifier == agrees || all
}

// sameIdentifier says whether one value of one system is of both, or a system
// knows the two by different values.
func (t traits) sameIdentifier(other traits) agreement {
	is := unsaid
	for _, a := range t.identifiers {
		for _, b := range other.identifiers {
			switch {
			case a.system == "" || a.system != b.system:
			case a.value == b.value:
				return agrees
			default:
				is = contradicts
			}
		}
	}
	return is
}

// shared says whether two lists have something in common.
func shared(a, b []string) agreement {
	switch {
	case len(a) == 0 || len(b) == 0:
		return unsaid
	case slices.ContainsFunc(a, func(x string) bool { return x != "" && slices.Contains(b, x) }):
		return agrees
	}
	return contradicts
}

// alike says how alike the likest two of the names are: similar if one begins the
// other, is one of its parts, or a letter is mistyped.
func alike(a, b []string) agreement {
	if len(a) == 0 || len(b) == 0 {
		return unsaid
	}
	best := contradicts
	for _, x := range a {
		for _, y := range b {
			switch {
			case x == y:
				return agrees
			case strings.HasPrefix(x, y), strings.HasPrefix(y, x), oneOff(x, y), partOf(x, y), partOf(y, x):
				best = similar
			}
		}
	}
	return best
}

// partOf reports whether x is one of the parts of a double name.
func partOf(x, y string) bool {
	return slices.Contains(strings.FieldsFunc(y, func(r rune) bool { return r == ' ' || r == '-' }), x)
}

// oneOff reports whether the longer of two words differs from the other in one
// letter, which is changed, missing, or swapped with its neighbour.
func oneOff(x, y string) bool {
	a, b := []rune(x), []rune(y)
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(b) < 4 || len(a)-len(b) > 1 {
		return false
	}
	i := 0
	for i < len(b) && a[i] == b[i] {
		i++
	}
	if len(a) > len(b) {
		return slices.Equal(a[i+1:], b[i:])
	}
	swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && slices.Equal(a[i+2:], b[i+2:])
	return i < len(a) && (slices.Equal(a[i+1:], b[i+1:]) || swapped)
}

// sameDate says how far two dates agree: similar as far as a year or month goes,
// with day and month in the other order, or with one digit mistyped.
func sameDate(a, b string) agreement {
	switch {
	case a == "" || b == "":
		return unsaid
	case a == b:
		return agrees
	case strings.HasPrefix(a, b), strings.HasPrefix(b, a), oneOff(a, b):
		return similar
	case len(a) == len("2006-01-02") && len(b) == len(a) && a[:4] == b[:4] && a[5:7] == b[8:] && a[8:] == b[5:7]:
		return similar
	}
	return contradicts
}

// sameAddress says how far two addresses agree: similar if the place is the same
// and the street is not, or is not said.
func (t traits) sameAddress(other traits) agreement {
	code, city := shared(t.postalCodes, other.postalCodes), shared(t.cities, other.cities)
	switch {
	case code == unsaid && city == unsaid:
		return unsaid
	case code != agrees && city != agrees:
		return contradicts
	case code == agrees && shared(t.lines, other.lines) == agrees:
		return agrees
	}
	return similar
}
