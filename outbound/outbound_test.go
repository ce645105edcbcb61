package outbound

import (
	"net/netip"
	"testing"
)

// E group: server-side request forgery.
func TestOnlyThePublicInternetIsReached(t *testing.T) {
	for _, a := range []string{
		"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
		"::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "ff02::1",
	} {
		if err := admit(netip.MustParseAddr(a), true, nil); err == nil {
			t.Errorf("%s may be asked", a)
		}
		if err := admit(netip.MustParseAddr(a), false, prefixes("10.1.2.0/24")); (err == nil) != (a == "10.1.2.3") {
			t.Errorf("%s, with 10.1.2.0/24 allowed: %v", a, err)
		}
	}
	for _, a := range []string{"8.8.8.8", "2606:4700::1111"} {
		if err := admit(netip.MustParseAddr(a), true, nil); err != nil {
			t.Errorf("%s may not be asked: %v", a, err)
		}
		if err := admit(netip.MustParseAddr(a), false, nil); err == nil {
			t.Errorf("%s may be asked without TLS", a)
		}
	}
}
