package tenant

import (
	"cmp"
	"fmt"
)

// Limits say how much one server answers. What is zero is the default, which is
// more than a server of two cores can do: it is for operators to know what a
// tenant needs.
type Limits struct {
	// Tenant is for all clients of the tenant together.
	Tenant Rate `json:"tenant,omitzero"`
	// Client is for each client, or for each user of it.
	Client Rate `json:"client,omitzero"`
}

// A Rate is so much per second. What is left over is kept for half a minute.
type Rate struct {
	// Requests is how many; the entries of a Bundle count as one.
	Requests int `json:"requests,omitzero"`
	// Cost is what they take, in what reading a resource by its id takes.
	Cost int `json:"cost,omitzero"`
}

// maxRate bounds what can be set.
const maxRate = 1_000_000

// OrDefault returns l with the defaults for what is not set.
func (l Limits) OrDefault() Limits {
	l.Tenant.Requests = cmp.Or(l.Tenant.Requests, 40_000)
	l.Tenant.Cost = cmp.Or(l.Tenant.Cost, 100_000)
	l.Client.Requests = cmp.Or(l.Client.Requests, 20_000)
	l.Client.Cost = cmp.Or(l.Client.Cost, 50_000)
	return l
}

func (l Limits) check() error {
	for name, n := range map[string]int{
		"tenant.requests": l.Tenant.Requests, "tenant.cost": l.Tenant.Cost,
		"client.requests": l.Client.Requests, "client.cost": l.Client.Cost,
	} {
		if n < 0 || n > maxRate {
			return fmt.Errorf("limits.%s has to be from 1 to %d", name, maxRate)
		}
	}
	return nil
}
