package tenant

import (
	"errors"
	"slices"
)

// Export says what exports show.
type Export struct {
	// Deidentified are the ids of the clients who get exports that are
	// de-identified, and nothing else.
	Deidentified []string `json:"deidentified,omitempty"`
	// Dates is how those show dates; "" is shifted.
	Dates Dates `json:"dates,omitzero"`
	// Links says that the files of exports are at URLs that need no token, for some
	// minutes each.
	Links bool `json:"links,omitzero"`
}

// Dates says how dates are shown in what is de-identified.
type Dates string

// The ways to show dates.
const (
	Shifted Dates = "shifted" // those of each patient go back by as many days
	Years   Dates = "years"   // the year alone
)

// maxDeidentified and maxClient bound the list of clients.
const (
	maxDeidentified = 100
	maxClient       = 256
)

func (e Export) check() error {
	if e.Dates != "" && e.Dates != Shifted && e.Dates != Years {
		return errors.New("export.dates has to be shifted or years")
	}
	if len(e.Deidentified) > maxDeidentified {
		return errors.New("export.deidentified has at most 100 entries")
	}
	for i, id := range e.Deidentified {
		if id == "" || len(id) > maxClient || slices.Contains(e.Deidentified[:i], id) {
			return errors.New("export.deidentified has to be a list of ids of clients, each once")
		}
	}
	return nil
}

// Deidentifies reports whether the client gets exports that are de-identified, and
// nothing else.
func (e Export) Deidentifies(client string) bool { return slices.Contains(e.Deidentified, client) }
