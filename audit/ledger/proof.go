package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// A Proof shows that an entry is in a log, or that a log of From leaves is the
// beginning of one of To. It can be checked without the server.
type Proof struct {
	// Checkpoint is the signed one of To leaves; nil if it is not the newest.
	Checkpoint []byte
	// Record is what is hashed of the entry; nil if no entry is proven.
	Record []byte
	// From and To are sizes; 0 if an entry is proven.
	From, To int64
	Hashes   []tlog.Hash
}

// Parameters returns p as a FHIR resource of that type.
// https://hl7.org/fhir/R4/parameters.html
func (p Proof) Parameters() []byte {
	list := []parameter{}
	if p.Checkpoint != nil {
		list = append(list, parameter{Name: "checkpoint", String: string(p.Checkpoint)})
	}
	if p.Record != nil {
		list = append(list, parameter{Name: "record", String: string(p.Record)})
	}
	if p.From != 0 || p.To != 0 {
		list = append(list, parameter{Name: "from", String: strconv.FormatInt(p.From, 10)}, parameter{Name: "to", String: strconv.FormatInt(p.To, 10)})
	}
	for _, h := range p.Hashes {
		list = append(list, parameter{Name: "hash", Bytes: h[:]})
	}
	text, err := json.Marshal(parameters{"Parameters", list})
	if err != nil {
		panic(err) // strings and bytes always marshal
	}
	return text
}

type parameters struct {
	Type string      `json:"resourceType"`
	List []parameter `json:"parameter"`
}

type parameter struct {
	Name   string `json:"name"`
	String string `json:"valueString,omitzero"`
	Bytes  []byte `json:"valueBase64Binary,omitzero"`
}

// errProof says that a text is not a proof.
var errProof = errors.New("ledger: malformed proof")

// ParseProof reads what Parameters wrote.
func ParseProof(text []byte) (p Proof, err error) {
	var r parameters
	if err := json.Unmarshal(text, &r); err != nil || r.Type != "Parameters" {
		return p, errProof
	}
	for _, x := range r.List {
		switch x.Name {
		case "checkpoint":
			p.Checkpoint = []byte(x.String)
		case "record":
			p.Record = []byte(x.String)
		case "from":
			p.From, err = strconv.ParseInt(x.String, 10, 64)
		case "to":
			p.To, err = strconv.ParseInt(x.String, 10, 64)
		case "hash":
			if len(x.Bytes) != tlog.HashSize {
				return p, errProof
			}
			p.Hashes = append(p.Hashes, tlog.Hash(x.Bytes))
		default:
			return p, errProof
		}
		if err != nil {
			return p, errProof
		}
	}
	return p, nil
}

// Check returns what p proves, in words. known are checkpoints that whoever
// checks has; those that p needs have to be among them, or in p.
func (p Proof) Check(key Key, known ...[]byte) (string, error) {
	bySize := map[int64]Checkpoint{}
	if p.Checkpoint != nil {
		known = append(known, p.Checkpoint)
	}
	trust := NewTrust(key)
	var newest Checkpoint
	for _, text := range slices.Backward(known) { // the newest says which keys were before
		c, err := trust.Open(text)
		if err != nil {
			return "", err
		}
		if had, ok := bySize[c.Size]; ok && had.Root != c.Root {
			return "", fmt.Errorf("ledger: the checkpoints of %s and %s, of %d leaves each, contradict each other", show(had.Time), show(c.Time), c.Size)
		}
		if bySize[c.Size] = c; len(bySize) == 1 {
			newest = c
		}
	}
	if p.Record != nil {
		return p.checkRecord(newest)
	}
	from, ok1 := bySize[p.From]
	to, ok2 := bySize[p.To]
	if !ok1 || !ok2 || p.From < 1 {
		return "", fmt.Errorf("ledger: the proof needs the checkpoints of %d and %d leaves", p.From, p.To)
	}
	if err := tlog.CheckTree(p.Hashes, to.Size, to.Root, from.Size, from.Root); err != nil {
		return "", fmt.Errorf("ledger: the log of %d leaves does not begin with the one of %d", to.Size, from.Size)
	}
	return fmt.Sprintf("the log %s of %s, %d leaves, begins with the %d of %s", to.Origin, show(to.Time), to.Size, from.Size, show(from.Time)), nil
}

func (p Proof) checkRecord(c Checkpoint) (string, error) {
	var r struct {
		Log  string `json:"log"`
		Leaf *int64 `json:"leaf"`
		Seq  int64  `json:"seq"`
	}
	if err := json.Unmarshal(p.Record, &r); err != nil || r.Leaf == nil || p.Checkpoint == nil {
		return "", errProof
	}
	if r.Log != c.Origin || *r.Leaf < 0 || *r.Leaf >= c.Size || tlog.CheckRecord(p.Hashes, c.Size, c.Root, *r.Leaf, tlog.RecordHash(p.Record)) != nil {
		return "", fmt.Errorf("ledger: the entry is not leaf %d of the log of %s", *r.Leaf, show(c.Time))
	}
	return fmt.Sprintf("entry %016x is leaf %d of the log %s of %s, %d leaves", uint64(r.Seq), *r.Leaf, c.Origin, show(c.Time), c.Size), nil
}
