package fhir

// An Interaction is a code of http://hl7.org/fhir/restful-interaction.
// https://hl7.org/fhir/R4/valueset-type-restful-interaction.html
type Interaction string

// The interactions of the RESTful API.
const (
	Read            Interaction = "read"
	Vread           Interaction = "vread"
	Update          Interaction = "update"
	Patch           Interaction = "patch"
	Delete          Interaction = "delete"
	HistoryInstance Interaction = "history-instance"
	HistoryType     Interaction = "history-type"
	HistorySystem   Interaction = "history-system"
	Create          Interaction = "create"
	SearchType      Interaction = "search-type"
	SearchSystem    Interaction = "search-system"
	Capabilities    Interaction = "capabilities"
	Transaction     Interaction = "transaction"
	Batch           Interaction = "batch"
	Operation       Interaction = "operation"
)

// Writes reports whether i changes resources.
func (i Interaction) Writes() bool {
	switch i {
	case Create, Update, Patch, Delete:
		return true
	}
	return false
}
