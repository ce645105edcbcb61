package audit

import (
	"encoding/binary"
	"errors"

	"github.com/cordon-fhir/cordon/fhir"
)

// The first byte of what MarshalSealed makes says how many texts there are: in the
// first version as many as firstTexts says, in the second all but those of a
// Glass and Failed, in the third all but Failed.
const (
	firstEntry   = 1
	plainEntry   = 2
	glassEntry   = 3
	refusedEntry = 4
	firstTexts   = 13
)

// MarshalSealed returns the part of e that is sealed in storage: all but Seq,
// Parent, Recorded, Interaction, Outcome, Type and Version, which are columns.
func (e *Entry) MarshalSealed() []byte {
	b := make([]byte, 1, 256)
	b[0] = plainEntry
	switch {
	case e.Failed != "":
		b[0] = refusedEntry
	case e.Glass != (Glass{}):
		b[0] = glassEntry
	}
	texts := e.sealedTexts(b[0])
	for _, n := range e.sealedNumbers() {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range texts {
		b = binary.AppendUvarint(b, uint64(len(*s)))
		b = append(b, *s...)
	}
	return b
}

func (e *Entry) sealedNumbers() [4]uint64 {
	return [4]uint64{
		uint64(e.Status), uint64(e.Agent.Policy),
		uint64(e.Entity.Type.Number()), uint64(e.Patient.Type.Number()),
	}
}

// sealedTexts returns the places of the texts in the order in which they are
// written. A new one is added at the end, with a new version.
func (e *Entry) sealedTexts(version byte) []*string {
	texts := []*string{
		&e.Reason, &e.Query, &e.Entity.ID, &e.Patient.ID,
		&e.Origin.RequestID, &e.Origin.Address, &e.Origin.Method, &e.Origin.Server,
		&e.Agent.Client, &e.Agent.User, &e.Agent.Issuer, &e.Agent.TokenID, &e.Agent.Purpose,
		&e.Agent.Access,
	}
	switch version {
	case firstEntry:
		return texts[:firstTexts]
	case glassEntry, refusedEntry:
		texts = append(texts, &e.Glass.ID, &e.Glass.Purpose, &e.Glass.Reason)
	}
	if version == refusedEntry {
		texts = append(texts, &e.Failed)
	}
	return texts
}

// errSealed says that the bytes are not what MarshalSealed makes.
var errSealed = errors.New("audit: malformed entry")

// UnmarshalSealed reads what MarshalSealed made into e and leaves the rest of
// e as it is.
func (e *Entry) UnmarshalSealed(data []byte) error {
	if len(data) == 0 || data[0] < firstEntry || data[0] > refusedEntry {
		return errSealed
	}
	texts := e.sealedTexts(data[0])
	data = data[1:]
	numbers := e.sealedNumbers()
	for i := range numbers {
		n, size := binary.Uvarint(data)
		if size <= 0 {
			return errSealed
		}
		numbers[i], data = n, data[size:]
	}
	for _, s := range texts {
		n, size := binary.Uvarint(data)
		if size <= 0 || n > uint64(len(data)-size) {
			return errSealed
		}
		*s, data = string(data[size:size+int(n)]), data[size+int(n):]
	}
	if len(data) > 0 {
		return errSealed
	}
	e.Status, e.Agent.Policy = int(numbers[0]), int64(numbers[1])
	e.Entity.Type = fhir.TypeNumbered(int16(numbers[2]))
	e.Patient.Type = fhir.TypeNumbered(int16(numbers[3]))
	return nil
}
