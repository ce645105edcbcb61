package audit

import (
	"errors"
	"fmt"
	"strconv"
)

// ID returns the logical id of the AuditEvent of e.
func (e Entry) ID() string { return idOf(e.Seq) }

func idOf(seq int64) string { return fmt.Sprintf("%016x", uint64(seq)) }

// ParseID returns the Seq that an id names. There is one spelling of each.
func ParseID(id string) (int64, error) {
	seq, err := strconv.ParseUint(id, 16, 63)
	if err != nil || seq == 0 || idOf(int64(seq)) != id {
		return 0, errors.New("audit: not the id of an AuditEvent")
	}
	return int64(seq), nil
}
