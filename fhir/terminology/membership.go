package terminology

// has says whether the code is in v. An empty system stands for any.
// https://hl7.org/fhir/R4/valueset.html#compositions
func (v *valueSet) has(system, code string) Answer {
	in := some(v.includes, system, code)
	if in == Out {
		return Out
	}
	switch some(v.excludes, system, code) {
	case In:
		return Out
	case Unknown:
		return Unknown
	}
	if in == In && v.dropsInactive() && v.isInactive(system, code) {
		return Out
	}
	return in
}

// some says whether the code is in at least one of the includes.
func some(list []*include, system, code string) Answer {
	answer := Out
	for _, in := range list {
		switch in.has(system, code) {
		case In:
			return In
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

// has says whether the code is in all that in names: its concepts, and each of
// its value sets.
func (in *include) has(system, code string) Answer {
	answer := In
	if in.System != "" {
		if system != "" && system != in.System {
			return Out
		}
		if answer = in.hasConcept(code); answer == Out {
			return Out
		}
	}
	if len(in.imports) < len(in.ValueSet) {
		answer = Unknown // one of them is not known
	}
	for _, v := range in.imports {
		switch v.has(system, code) {
		case Out:
			return Out
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

// hasConcept says whether the code is one of those that in names of its system.
func (in *include) hasConcept(code string) Answer {
	if in.codes != nil {
		if _, ok := in.codes[in.fold(code)]; ok {
			return In
		}
		return Out
	}
	if in.system == nil {
		if in.grammar == nil || in.fault != nil {
			return Unknown
		}
		return in.grammar.has(code)
	}
	c, ok := in.system.find(code)
	switch {
	case !ok && in.system.complete():
		return Out
	case !ok, len(in.Filter) > 0 && in.only == nil:
		return Unknown
	case in.only != nil && !in.only.has(c):
		return Out
	}
	return In
}

// dropsInactive reports whether v is without concepts that are not active.
// https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.compose.inactive
func (v *valueSet) dropsInactive() bool { return v.Compose.Inactive != nil && !*v.Compose.Inactive }

// isInactive reports whether the code is known not to be active, in a system
// that v includes.
func (v *valueSet) isInactive(system, code string) bool {
	for _, in := range v.includes {
		for _, sub := range in.imports {
			if sub.isInactive(system, code) {
				return true
			}
		}
		if in.system == nil || system != "" && system != in.System {
			continue
		}
		if c, ok := in.system.find(code); ok && in.system.inactive.has(c) {
			return true
		}
	}
	return false
}
