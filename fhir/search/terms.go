// Package search reads FHIR search expressions, says what an index must hold
// and answer for them, and evaluates them against one resource.
//
// https://hl7.org/fhir/R4/search.html
package search

import "time"

// A Path names an indexed element, "Observation.subject". Search parameters
// whose expressions share an element share its Path, so that it is indexed
// once: patient and subject of Observation both read Observation.subject.
type Path string

// Terms are what the index holds of one version of a resource. Equal terms
// occur once.
type Terms struct {
	// Time is the main clinical date of the resource, such as the beginning
	// of Observation.effective[x]; zero if it has none.
	Time time.Time
	// Present has a bit for each search parameter of the type that has a
	// value, for :missing. The bit is the parameter's Bit.
	Present uint64

	Tokens  []Token
	Refs    []Reference
	Dates   []DateRange
	Numbers []NumberRange
	// Standings follow from the others.
	Standings []Standing
	// TooMany says that the resource has more terms than MaxTerms and that
	// some are missing here. Such a resource must not be stored: searches
	// would not find it.
	TooMany bool

	// Strings are not in the index. They are what :exact, :contains and long
	// prefixes are checked on, on the opened body.
	Strings []String

	// tree is the resource, in which words and contained resources are looked
	// for; schema is that of its tenant.
	tree   value
	schema Schema
	// narrative and content are the words of the resource, once asked for.
	narrative, content string
}

// MaxTerms bounds the terms of one resource, so that a small body made for the
// purpose cannot fill the memory or the index.
const MaxTerms = 100_000

// A Token is a value that is found by equality: a code in one of its
// spellings, a URI, a prefix or trigram of a string.
type Token struct {
	Path  Path
	Value string
}

// A Reference is a literal reference to Target: "Patient/7" if it is in this
// server, else the URL as it stands. When Pair is set, the row says that the
// resource refers to Target by Path and holds the token Pair: the pre-joined
// index of hot pairs such as patient and code.
type Reference struct {
	Path   Path
	Target string
	Pair   Token
}

// A DateRange is the time that a date, dateTime, instant, Period or Timing
// covers, from Lo (inclusive) to Hi (exclusive). Open ends are the zero
// Time at Lo and Forever at Hi.
type DateRange struct {
	Path   Path
	Lo, Hi time.Time
}

// Forever is the open end of a DateRange.
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)

// A NumberRange is the extent of a number, Quantity or Range. Unit narrows it:
// "" for the number alone, else a unit or code in the spelling that search
// uses, or for composites the token of the other component.
type NumberRange struct {
	Path   Path
	Unit   string
	Lo, Hi float64
}

// A String is a string value as the resource spells it.
type String struct {
	Path Path
	Text string
}
