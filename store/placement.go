package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// sealedPlacement is a placement as the registry keeps it.
type sealedPlacement struct {
	Schema, Role string
	DSN          []byte
	AuditDSN     []byte
	LogDSN       []byte
	Signer       []byte
}

// placementAD binds a sealed secret to its tenant and its column.
func placementAD(id int32, column string) []byte {
	return []byte("cordon|tenant|" + strconv.Itoa(int(id)) + "|" + column)
}

// sealPlacement seals the secrets of p under the key-encryption key. What is
// empty stays so.
func sealPlacement(kms keys.KMS, kek string, id tenant.ID, p tenant.Placement) (sealedPlacement, error) {
	s := sealedPlacement{Schema: p.Schema, Role: p.Role}
	for _, f := range []struct {
		column string
		plain  []byte
		sealed *[]byte
	}{
		{"dsn", []byte(p.DSN), &s.DSN},
		{"audit_dsn", []byte(p.AuditDSN), &s.AuditDSN},
		{"log_dsn", []byte(p.LogDSN), &s.LogDSN},
		{"signer", p.Signer, &s.Signer},
	} {
		if len(f.plain) == 0 {
			continue
		}
		sealed, err := keys.Wrap(kms, kek, f.plain, placementAD(id.Int(), f.column))
		if err != nil {
			return sealedPlacement{}, fmt.Errorf("sealing %s: %w", f.column, err)
		}
		*f.sealed = sealed
	}
	return s, nil
}

// unseal opens what sealPlacement sealed for the same tenant.
func (s sealedPlacement) unseal(kms keys.KMS, kek string, id int32) (tenant.Placement, error) {
	p := tenant.Placement{Schema: s.Schema, Role: s.Role}
	open := func(column string, sealed []byte) ([]byte, error) {
		if len(sealed) == 0 {
			return nil, nil
		}
		plain, err := keys.Unwrap(kms, kek, sealed, placementAD(id, column))
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", column, err)
		}
		return plain, nil
	}
	dsn, err := open("dsn", s.DSN)
	if err != nil {
		return tenant.Placement{}, err
	}
	auditDSN, err := open("audit_dsn", s.AuditDSN)
	if err != nil {
		return tenant.Placement{}, err
	}
	logDSN, err := open("log_dsn", s.LogDSN)
	if err != nil {
		return tenant.Placement{}, err
	}
	p.DSN, p.AuditDSN, p.LogDSN = string(dsn), string(auditDSN), string(logDSN)
	p.Signer, err = open("signer", s.Signer)
	return p, err
}

// digest tells sealed placements apart.
func (s sealedPlacement) digest(kek string) [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(s.Schema), []byte(s.Role), []byte(kek), s.DSN, s.AuditDSN, s.LogDSN, s.Signer} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
