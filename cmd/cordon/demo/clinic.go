package demo

// A person who treats patients.
type practitioner struct {
	id, given, family, gender string
	npi                       string // begins with 9: such a number is never assigned
	specialty                 code   // NUCC
}

const nucc = "http://nucc.org/provider-taxonomy"

var practitioners = []practitioner{
	{"dr1", "Miriam", "Oakhurst", "female", "9914001000", code{nucc, "207Q00000X", "Family Medicine Physician"}},
	{"dr2", "Tobias", "Lindqvist", "male", "9914002008", code{nucc, "207R00000X", "Internal Medicine Physician"}},
	{"dr3", "Amara", "Fernleigh", "female", "9914003006", code{nucc, "207P00000X", "Emergency Medicine Physician"}},
	{"dr4", "Rafael", "Quimby", "male", "9914004004", code{nucc, "363L00000X", "Nurse Practitioner"}},
}

func (p practitioner) name() string { return "Dr. " + p.given + " " + p.family }

func (p practitioner) ref() object { return reference("Practitioner", p.id, p.name()) }

// The organizations and places.
var (
	hospital = reference("Organization", "org1", "Cedar Point Health")
	lab      = reference("Organization", "org2", "Cedar Point Laboratory")
	payer    = reference("Organization", "org3", "Prairie Mutual Insurance")
	office   = reference("Location", "loc1", "Cedar Point Family Practice")
	ward     = reference("Location", "loc2", "Cedar Point Hospital")
)

// clinic returns what all patients share.
func clinic() []object {
	all := []object{
		organization("org1", "Cedar Point Health", "prov", "Healthcare Provider"),
		organization("org2", "Cedar Point Laboratory", "prov", "Healthcare Provider"),
		organization("org3", "Prairie Mutual Insurance", "pay", "Payer"),
		place("loc1", "Cedar Point Family Practice", "12 Mill Street"),
		place("loc2", "Cedar Point Hospital", "400 Orchard Avenue"),
	}
	for _, p := range practitioners {
		all = append(all, p.resource(), p.role())
	}
	return all
}

func organization(id, name, kind, display string) object {
	return resource("Organization", id, "us-core-organization", narrative(name, display)).and(
		"active", true,
		"type", array{concept(code{hl7 + "organization-type", kind, display})},
		"name", name,
		"telecom", array{obj("system", "phone", "value", "+1 555-555-0100", "use", "work")},
		"address", array{address("400 Orchard Avenue")},
	)
}

func place(id, name, street string) object {
	return resource("Location", id, "us-core-location", narrative(name, street)).and(
		"status", "active",
		"name", name,
		"mode", "instance",
		"telecom", array{obj("system", "phone", "value", "+1 555-555-0101", "use", "work")},
		"address", address(street),
		"managingOrganization", hospital,
	)
}

func address(street string) object {
	return obj("line", array{street}, "city", "Cedar Point", "state", "MA", "postalCode", "01999", "country", "US")
}

func (p practitioner) resource() object {
	return resource("Practitioner", p.id, "us-core-practitioner", narrative(p.name(), p.specialty.display)).and(
		"identifier", array{obj("system", npi, "value", p.npi)},
		"active", true,
		"name", array{obj("use", "official", "family", p.family, "given", array{p.given}, "prefix", array{"Dr."})},
		"telecom", array{obj("system", "email", "value", p.id+"@cedarpoint.example", "use", "work")},
		"address", array{address("12 Mill Street")},
		"gender", p.gender,
	)
}

func (p practitioner) role() object {
	return resource("PractitionerRole", p.id+"-role", "us-core-practitionerrole", narrative(p.name(), p.specialty.display)).and(
		"active", true,
		"practitioner", p.ref(),
		"organization", hospital,
		"specialty", array{concept(p.specialty)},
		"location", array{office},
		"telecom", array{obj("system", "phone", "value", "+1 555-555-0102", "use", "work")},
	)
}
