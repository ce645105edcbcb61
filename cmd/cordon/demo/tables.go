package demo

// A drug is a product that is prescribed.
type drug struct {
	code code // RxNorm
	dose string
}

// An ailment is what a patient may have, with what comes with it.
type ailment struct {
	snomed, icd code
	drug        drug
	tests       []analyte // what is measured to follow it
	fromAge     int       // not seen before this age
	perMille    int       // how many of a thousand have it
	plan        string
}

// An analyte is what a laboratory measures.
// https://loinc.org/
type analyte struct {
	code      code
	unit      string // UCUM
	low, high float64
	digits    int
}

func rx(c, display, dose string) drug { return drug{code{rxnorm, c, display}, dose} }

func test(c, display, unit string, low, high float64, digits int) analyte {
	return analyte{code{loinc, c, display}, unit, low, high, digits}
}

var (
	glucose    = test("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 70, 99, 0)
	hba1c      = test("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 4.0, 5.6, 1)
	ureaN      = test("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 7, 20, 0)
	creatinine = test("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 0.6, 1.2, 2)
	sodium     = test("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 136, 145, 0)
	potassium  = test("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 3.5, 5.1, 1)
	chloride   = test("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 98, 107, 0)
	carbonate  = test("2028-9", "Carbon dioxide, total [Moles/volume] in Serum or Plasma", "mmol/L", 22, 29, 0)
	total      = test("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 125, 200, 0)
	triglyc    = test("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 50, 150, 0)
	hdl        = test("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 40, 80, 0)
	ldl        = test("18262-6", "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay", "mg/dL", 50, 130, 0)
	leukocytes = test("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 4.5, 11, 1)
	hemoglobin = test("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 12, 17.5, 1)
	hematocrit = test("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 36, 50, 1)
	platelets  = test("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 150, 400, 0)
	tsh        = test("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 0.4, 4.0, 2)
	inr        = test("6301-6", "INR in Platelet poor plasma by Coagulation assay", "{INR}", 0.8, 1.1, 1)
	ferritin   = test("2276-4", "Ferritin [Mass/volume] in Serum or Plasma", "ng/mL", 15, 150, 0)
)

// A panel is what is ordered together.
type panel struct {
	code  code
	tests []analyte
}

var (
	metabolic = panel{code{loinc, "51990-0", "Basic metabolic panel - Blood"},
		[]analyte{glucose, ureaN, creatinine, sodium, potassium, chloride, carbonate}}
	lipids = panel{code{loinc, "57698-3", "Lipid panel with direct LDL - Serum or Plasma"},
		[]analyte{total, triglyc, hdl, ldl}}
	bloodCount = panel{code{loinc, "58410-2", "CBC panel - Blood by Automated count"},
		[]analyte{leukocytes, hemoglobin, hematocrit, platelets}}
)

// chronic ailments stay.
var chronic = []ailment{
	{code{snomed, "44054006", "Diabetes mellitus type 2"}, code{icd10, "E11.9", "Type 2 diabetes mellitus without complications"},
		rx("861007", "metformin hydrochloride 500 MG Oral Tablet", "1 tablet twice a day with meals"), []analyte{hba1c, glucose}, 38, 160, "Diabetes self-management plan"},
	{code{snomed, "59621000", "Essential hypertension"}, code{icd10, "I10", "Essential (primary) hypertension"},
		rx("314076", "lisinopril 10 MG Oral Tablet", "1 tablet every morning"), []analyte{potassium, creatinine}, 30, 330, "Hypertension clinical management plan"},
	{code{snomed, "55822004", "Hyperlipidemia"}, code{icd10, "E78.5", "Hyperlipidemia, unspecified"},
		rx("617310", "atorvastatin 20 MG Oral Tablet", "1 tablet at bedtime"), []analyte{total, ldl}, 30, 280, "Lipid management plan"},
	{code{snomed, "195967001", "Asthma"}, code{icd10, "J45.909", "Unspecified asthma, uncomplicated"},
		rx("745679", "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler", "2 puffs every 4 to 6 hours when needed"), nil, 4, 100, "Asthma self management plan"},
	{code{snomed, "40930008", "Hypothyroidism"}, code{icd10, "E03.9", "Hypothyroidism, unspecified"},
		rx("966222", "levothyroxine sodium 0.075 MG Oral Tablet", "1 tablet before breakfast"), []analyte{tsh}, 25, 70, "Thyroid follow-up plan"},
	{code{snomed, "370143000", "Major depressive disorder"}, code{icd10, "F32.9", "Major depressive disorder, single episode, unspecified"},
		rx("312941", "sertraline 50 MG Oral Tablet", "1 tablet once a day"), nil, 16, 120, "Mental health care plan"},
	{code{snomed, "239873007", "Osteoarthritis of knee"}, code{icd10, "M17.9", "Osteoarthritis of knee, unspecified"},
		rx("849574", "naproxen sodium 220 MG Oral Tablet", "1 tablet twice a day when needed"), nil, 50, 200, "Musculoskeletal care plan"},
	{code{snomed, "235595009", "Gastroesophageal reflux disease"}, code{icd10, "K21.9", "Gastro-esophageal reflux disease without esophagitis"},
		rx("198051", "omeprazole 20 MG Delayed Release Oral Capsule", "1 capsule before breakfast"), nil, 25, 180, "Dietary plan"},
	{code{snomed, "49436004", "Atrial fibrillation"}, code{icd10, "I48.91", "Unspecified atrial fibrillation"},
		rx("855332", "warfarin sodium 5 MG Oral Tablet", "1 tablet every evening"), []analyte{inr}, 60, 90, "Anticoagulation plan"},
	{code{snomed, "87522002", "Iron deficiency anemia"}, code{icd10, "D50.9", "Iron deficiency anemia, unspecified"},
		rx("310325", "ferrous sulfate 325 MG Oral Tablet", "1 tablet once a day"), []analyte{hemoglobin, ferritin}, 15, 60, "Anemia follow-up plan"},
}

// acute ailments heal.
var acute = []ailment{
	{snomed: code{snomed, "195662009", "Acute viral pharyngitis"}, icd: code{icd10, "J02.8", "Acute pharyngitis due to other specified organisms"},
		drug: rx("310965", "ibuprofen 200 MG Oral Tablet", "1 tablet every 6 hours when needed")},
	{snomed: code{snomed, "444814009", "Viral sinusitis"}, icd: code{icd10, "J01.90", "Acute sinusitis, unspecified"},
		drug: rx("310965", "ibuprofen 200 MG Oral Tablet", "1 tablet every 6 hours when needed")},
	{snomed: code{snomed, "10509002", "Acute bronchitis"}, icd: code{icd10, "J20.9", "Acute bronchitis, unspecified"},
		drug: rx("745679", "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler", "2 puffs every 6 hours for five days")},
	{snomed: code{snomed, "65363002", "Otitis media"}, icd: code{icd10, "H66.90", "Otitis media, unspecified, unspecified ear"},
		drug: rx("308191", "amoxicillin 500 MG Oral Capsule", "1 capsule three times a day for seven days")},
	{snomed: code{snomed, "68566005", "Urinary tract infectious disease"}, icd: code{icd10, "N39.0", "Urinary tract infection, site not specified"},
		drug: rx("309309", "ciprofloxacin 500 MG Oral Tablet", "1 tablet twice a day for three days")},
	{snomed: code{snomed, "44465007", "Sprain of ankle"}, icd: code{icd10, "S93.401A", "Sprain of unspecified ligament of right ankle, initial encounter"},
		drug: rx("310965", "ibuprofen 200 MG Oral Tablet", "2 tablets every 8 hours with food")},
}

// An allergen is what a patient may not bear.
type allergen struct {
	code               code
	category, reaction string // reaction is a SNOMED code
	manifestation      string
	criticality        string
}

var allergens = []allergen{
	{code{snomed, "91936005", "Allergy to penicillin"}, "medication", "247472004", "Wheal", "low"},
	{code{snomed, "91935009", "Allergy to peanut"}, "food", "39579001", "Anaphylaxis", "high"},
	{code{snomed, "300913006", "Allergy to shellfish"}, "food", "247472004", "Wheal", "low"},
	{code{snomed, "300916003", "Latex allergy"}, "environment", "40275004", "Contact dermatitis", "low"},
	{code{snomed, "300910009", "Allergy to pollen"}, "environment", "70076002", "Rhinitis", "low"},
}

// A vaccine and the ages at which it is given.
type vaccine struct {
	code code
	ages []int
}

var (
	influenza = code{cvx, "140", "Influenza, seasonal, injectable, preservative free"}
	vaccines  = []vaccine{
		{code{cvx, "115", "Tdap"}, []int{12, 32, 52}},
		{code{cvx, "113", "Td (adult), 5 Lf tetanus toxoid, preservative free, adsorbed"}, []int{22, 42, 62, 72}},
		{code{cvx, "187", "zoster vaccine recombinant"}, []int{50, 51}},
		{code{cvx, "133", "Pneumococcal conjugate PCV 13"}, []int{65}},
		{code{cvx, "03", "MMR"}, []int{1, 5}},
	}
)

var procedures = []code{
	{snomed, "430193006", "Medication reconciliation"},
	{snomed, "171207006", "Depression screening"},
	{snomed, "127783003", "Spirometry"},
	{snomed, "29303009", "Electrocardiographic procedure"},
	{snomed, "73761001", "Colonoscopy"},
}

// Names of people who never were, and of the streets where they never lived.
var (
	girls    = []string{"Beatrix", "Clementine", "Dorothea", "Elodie", "Felicity", "Guinevere", "Henrietta", "Imogen", "Josefina", "Marisol", "Ottilie", "Rosalind", "Saoirse", "Thandiwe", "Yumiko", "Zofia"}
	boys     = []string{"Alaric", "Bartholomew", "Cornelius", "Desmond", "Eamon", "Florian", "Gideon", "Horatio", "Ignacio", "Jasper", "Leopold", "Mateusz", "Nikhil", "Octavio", "Percival", "Quentin"}
	families = []string{"Abernethy", "Birchwood", "Castellano", "Drummond", "Eastlake", "Fairweather", "Grimaldi", "Hollingsworth", "Iverson", "Jankowski", "Kettleman", "Larkspur", "Montalvo", "Nakagawa", "O'Hanlon", "Pemberton", "Quillfeather", "Ramanathan", "Sánchez-Vega", "Thistlewood", "Underhill", "Vandermeer", "Whitcombe", "Xiong", "Yardley", "Zimmerling"}
	initials = []string{"A.", "B.", "C.", "D.", "E.", "J.", "L.", "M.", "R.", "T."}
	streets  = []string{"Alder Lane", "Birch Road", "Chestnut Street", "Dogwood Court", "Elm Terrace", "Hickory Way", "Linden Place", "Maple Avenue", "Spruce Drive", "Willow Circle"}
)

var races = []struct {
	race, ethnicity code
}{
	{code{omb, "2106-3", "White"}, code{omb, "2186-5", "Not Hispanic or Latino"}},
	{code{omb, "2054-5", "Black or African American"}, code{omb, "2186-5", "Not Hispanic or Latino"}},
	{code{omb, "2106-3", "White"}, code{omb, "2135-2", "Hispanic or Latino"}},
	{code{omb, "2028-9", "Asian"}, code{omb, "2186-5", "Not Hispanic or Latino"}},
}
