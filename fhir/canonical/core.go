package canonical

import (
	_ "embed"
	"sync"
)

//go:embed core.pack
var corePack []byte

// Core returns the definitions of FHIR R4, package hl7.fhir.r4.core 4.0.1,
// without their prose. Their names are read when it is first called, each
// definition when it is first asked for.
var Core = sync.OnceValue(func() *Set {
	p, err := Unpack(corePack)
	if err != nil {
		panic(err) // it is part of the program
	}
	return NewSet(nil, p.Definitions)
})
