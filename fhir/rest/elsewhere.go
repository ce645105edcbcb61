package rest

import (
	"context"
	"slices"
	"sync"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/fhir/terminology/external"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// terminology answers about codes from the definitions, and, if the tenant's
// settings name a terminology server, from there what they cannot tell. What
// is asked there goes through the errands, nil if nobody is asked.
func (s *server) terminology(ctx context.Context, g *smart.Grant, set *canonical.Set, away away) (*terminology.Service, *errands) {
	own := terminology.New(set).Within(ctx)
	setting := g.Tenant().Settings.Terminology
	if setting.URL == "" {
		return own, nil
	}
	e := &errands{to: s.elsewhere.of(g.Tenant().ID, setting, s.externalConfig()), away: away}
	return own.Asking(ctx, e, setting.OnFailure != tenant.Warn), e
}

func (s *server) externalConfig() external.Config {
	return external.Config{Private: s.TerminologyNetworks, Now: s.Now}
}

// elsewhere are the terminology servers that tenants ask, each with what it
// answered that tenant: nobody learns from the time of an answer what others
// asked.
type elsewhere struct {
	mu      sync.Mutex
	servers map[tenant.ID]*terminologyServer
}

type terminologyServer struct {
	setting tenant.Terminology
	*external.Server
}

// maxElsewhere bounds the tenants whose answers are kept.
const maxElsewhere = 1000

// of returns the server that the setting names.
func (e *elsewhere) of(id tenant.ID, setting tenant.Terminology, cfg external.Config) *external.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.servers[id]
	if known != nil && known.setting.URL == setting.URL && slices.Equal(known.setting.Systems, setting.Systems) {
		return known.Server
	}
	if e.servers == nil {
		e.servers = map[tenant.ID]*terminologyServer{}
	}
	if known == nil && len(e.servers) >= maxElsewhere {
		for other := range e.servers { // any one will do: it can be asked again
			delete(e.servers, other)
			break
		}
	}
	cfg.URL, cfg.Systems = setting.URL, setting.Systems
	e.servers[id] = &terminologyServer{setting, external.New(cfg)}
	return e.servers[id].Server
}
