package smart

import (
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// PermitAnswers answers with the Permit by which the server keeps what g asked
// to be answered later, and gives the answer back. It opens no resource: what
// is in an answer was permitted when it was made.
func (g *Grant) PermitAnswers() (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: fhir.Operation, where: search.Or{}}, nil
}

// PermitTakingUp answers with the Permit by which the server finds deferred
// requests, whoever asked them. Any Grant but that of TakingUp is refused it.
func (g *Grant) PermitTakingUp() (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil || !g.access.takesUp {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: fhir.Operation, where: search.Or{}}, nil
}
