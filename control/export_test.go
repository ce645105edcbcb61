package control

// Acts returns method and path of each route that changes something, or asks what
// is to be on record.
func Acts() (list [][2]string) {
	for _, r := range routes {
		if r.method != "GET" {
			list = append(list, [2]string{r.method, prefix + r.path})
		}
	}
	return list
}
