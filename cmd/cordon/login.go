package main

import "github.com/cordon-fhir/cordon/smart/backend"

// newLogin returns the login of a registered client whose key is on disk.
func newLogin(tenant *devTenant, client devClient, scope string) (*backend.Service, error) {
	key, err := readKey(client.KeyFile)
	if err != nil {
		return nil, err
	}
	return &backend.Service{TokenURL: tenant.TokenURL, Client: client.ID, Scope: scope, Key: key}, nil
}
