package smart

// A Person is what the login of a user made known of them. The policy of the
// tenant decides by it; what is missing is known to be nothing. It is part of
// the token, so it is as old as the token at most.
type Person struct {
	// Roles are codes of the tenant's own: "nurse", "billing".
	Roles []string `json:"roles,omitzero"`
	// Organizations, Facilities and Departments are ids of Organization,
	// Location and Organization resources that the user works for.
	Organizations []string `json:"organizations,omitzero"`
	Facilities    []string `json:"facilities,omitzero"`
	Departments   []string `json:"departments,omitzero"`
	// Location is the id of the Location that the user is at, "" if unknown.
	Location string `json:"location,omitzero"`
	// ShiftStart and ShiftEnd are seconds since 1970; both 0 for no shift.
	ShiftStart int64 `json:"shiftStart,omitzero"`
	ShiftEnd   int64 `json:"shiftEnd,omitzero"`
}
