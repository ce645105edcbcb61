package smart

// Entry returns a Grant with the rights of g for one entry of a Bundle: what
// is done under it has an audit entry of its own, linked to the request's.
func (g *Grant) Entry() *Grant {
	entry := *g
	entry.origin.Trail = g.origin.Trail.Entry()
	return &entry
}
