package terminology

import (
	"runtime"
	"sync"
	"weak"

	"github.com/cordon-fhir/cordon/fhir/canonical"
)

// A keeper keeps what follows from one definition alone, as long as the
// definition is in use. A Set is made anew whenever a tenant changes one of its
// definitions; half a million concepts need not be read again for it.
type keeper[T any] struct{ known sync.Map } // weak.Pointer[canonical.Definition] → *kept[T]

// of returns what make returned when it was first called for d. What it returns
// must not hold on to d.
func (k *keeper[T]) of(d *canonical.Definition, make func(json []byte) (T, error)) (T, error) {
	key := weak.Make(d)
	found, ok := k.known.Load(key)
	if !ok {
		if found, ok = k.known.LoadOrStore(key, &kept[T]{}); !ok {
			runtime.AddCleanup(d, func(key weak.Pointer[canonical.Definition]) { k.known.Delete(key) }, key)
		}
	}
	one := found.(*kept[T])
	one.once.Do(func() { one.value, one.err = make(d.JSON()) })
	return one.value, one.err
}

// kept is a value that is made once.
type kept[T any] struct {
	once  sync.Once
	value T
	err   error
}

// The code systems that are in use anywhere, and what each says of itself.
var (
	headers     keeper[header]
	codeSystems keeper[*codeSystem]
)
