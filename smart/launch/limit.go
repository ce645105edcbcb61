package launch

import (
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/limit"
)

// limit refuses the call if somebody has to wait. One of many refusals has an
// entry in the audit trail; see limit.Report.
func (c *call) limit(wait time.Duration, report limit.Report) error {
	if wait == 0 {
		return nil
	}
	c.refused = &report
	c.header.Set("Retry-After", limit.RetryAfter(wait))
	return &fault{"temporarily_unavailable", "too many requests", http.StatusTooManyRequests, report.String()}
}
