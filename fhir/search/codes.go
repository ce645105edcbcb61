package search

// maxCodes is how many codes the value of a modifier can stand for. Each is
// looked up in the index.
const maxCodes = 1000

// expansionCost is what it costs to find the codes, in conditions.
const expansionCost = 20

// codes returns the condition of the token modifiers that are about code
// systems: in, not-in, above and below. The value stands for many codes.
// https://hl7.org/fhir/R4/search.html#modifiers
func (e element) codes(name, modifier, text string, o Options) (Expr, error) {
	if o.Terminology == nil || e.has("ContactPoint") || e.has("exists") || e.all("Identifier") || e.all("boolean") {
		return nil, unsupportedModifier(name)
	}
	text, err := unescape(name, text)
	if err != nil {
		return nil, err
	}
	if err := o.spend(name, expansionCost); err != nil {
		return nil, err
	}
	list, err := o.Terminology.Codes(modifier, text, maxCodes)
	if err != nil {
		return nil, err
	}
	if err := o.spend(name, len(list)); err != nil {
		return nil, err
	}
	or := Or{}
	for _, c := range list {
		or = appendOnce(or, e.systemCode(c.System, c.Code))
	}
	return or, nil
}
