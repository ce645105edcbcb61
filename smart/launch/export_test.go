package launch

// Endpoints returns the method and path of each.
func (s *Server) Endpoints() (list [][2]string) {
	for _, r := range s.router.Routes() {
		list = append(list, [2]string{r.Method, r.Path})
	}
	return list
}
