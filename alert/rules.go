package alert

import "github.com/cordon-fhir/cordon/smart"

// Rules are all rules by which there are alerts.
var Rules = []smart.Rule{
	smart.CrossTenant, smart.MutatedClaims, smart.AdminOnData, smart.TokenReuse, smart.ForeignServer, OtherInHeader, OtherInBundle,
	Enumeration, Scraping, Elsewhere, FailedLogins, Unaudited, TamperedTrail, BrokenGlass, BrokenAlone,
}

// The rules about requests that name another tenant than that of their token.
const (
	OtherInHeader smart.Rule = "tenant-header"      // X-Tenant-Id
	OtherInBundle smart.Rule = "cross-tenant-entry" // the URL of an entry
)
