package tenant

import "testing"

// BULK-08, T173: a URL is of a source if it is below it, however its path is read.
func TestAURLIsOfASource(t *testing.T) {
	i := Import{Sources: []string{"https://files.example/claims/", "s3://loads/claims/"}}
	if err := i.check(); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{
		"https://files.example/claims/a.ndjson":              true,
		"https://files.example/claims/2026/a.ndjson.gz?x=y":  true,
		"https://files.example/claims/":                      false,
		"https://files.example/claims":                       false,
		"https://files.example/claimsb/a":                    false,
		"https://files.example/other/a":                      false,
		"https://files.example/claims/../other/a":            false,
		"https://files.example/claims/./a":                   false,
		"https://files.example/claims/%2e%2e/other/a":        false,
		"https://files.example/claims/..%2fother/a":          false,
		"https://files.example/claims/%252e%252e/a":          false,
		"https://files.example/claims//other":                false,
		"https://files.example/claims/..\\other":             false,
		"https://files.example/claims/a#b":                   false,
		"https://files.example@evil.example/claims/a":        false,
		"https://evil.example/https://files.example/claims/": false,
		"http://files.example/claims/a":                      false,
		"file:///claims/a":                                   false,
		"s3://loads/claims/2026/a.ndjson":                    true,
		"s3://loads/claims/":                                 false,
		"s3://loads/other/a":                                 false,
		"s3://loads/claims/../other/a":                       false,
		"s3://loads/claims//a":                               false,
		"s3://loads/claims/%2e%2e/other/a":                   false,
		"s3://loads/claims/a?versionId=1":                    false,
		"s3://other/claims/a":                                false,
		"S3://loads/claims/a":                                false,
		"http://169.254.169.254/latest/meta-data/":           false,
	} {
		if _, ok := i.Source(url); ok != want {
			t.Errorf("%s: %t", url, ok)
		}
	}
	for _, bad := range []string{"https://files.example/claims", "ftp://files.example/", "https://u:p@files.example/", "https://files.example/a/../b/", "files.example/", "s3://loads", "s3://loads/claims", "s3://l/", "s3://loads:9000/a/", "s3://u@loads/a/", "s3://loads/a%2fb/", "s3:///a/"} {
		if err := (Import{Sources: []string{bad}}).check(); err == nil {
			t.Errorf("%s is taken for a source", bad)
		}
	}
}
