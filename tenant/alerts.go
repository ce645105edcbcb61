package tenant

import (
	"errors"
	"fmt"
	"net/netip"
)

// Alerts say what is ordinary for a tenant, so that people are told of the rest.
type Alerts struct {
	// Patients is of how many patients a client without a user may be told in an
	// hour; 0 is 25,000.
	Patients int `json:"patients,omitzero"`
	// UserPatients is the same for a user; 0 is 1,000.
	UserPatients int `json:"userPatients,omitzero"`
	// Networks are those in which clients run, by client_id. A client that is not
	// here may run anywhere.
	Networks map[string][]netip.Prefix `json:"networks,omitempty"`
}

// maxNetworks bounds the clients with networks, and the networks of each.
const maxNetworks = 100

func (a Alerts) check() error {
	if a.Patients < 0 || a.Patients > maxRate || a.UserPatients < 0 || a.UserPatients > maxRate {
		return fmt.Errorf("alerts.patients and alerts.userPatients have to be from 1 to %d", maxRate)
	}
	tooMany := len(a.Networks) > maxNetworks
	for _, networks := range a.Networks {
		tooMany = tooMany || len(networks) > maxNetworks
	}
	if tooMany {
		return errors.New("alerts.networks has at most 100 clients with at most 100 networks each")
	}
	return nil
}
