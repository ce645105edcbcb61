package consent

import "slices"

// confidentiality are the codes of v3-Confidentiality, rising.
// http://terminology.hl7.org/CodeSystem/v3-Confidentiality
var confidentiality = []string{"U", "L", "M", "N", "R", "V"}

// sensitivities says what codes of sensitivity are part of, and purposes the
// same of purposes of use.
// https://terminology.hl7.org/ValueSet-v3-InformationSensitivityPolicy.html
// https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html
var (
	sensitivities = parents(map[string][]string{
		"BH":  {"COGN", "DVD", "EMOTDIS", "MH", "PSY", "PSYTHPN", "SUD"},
		"SUD": {"ETHUD", "OPIOIDUD", "42CFRPart2"},
		"ETH": {"ETHUD"},
		"STD": {"HIV"},
	})
	purposes = parents(map[string][]string{
		"TREAT":   {"CLINTRL", "COC", "ETREAT", "BTG", "ERTREAT", "POPHLTH"},
		"ETREAT":  {"BTG", "ERTREAT"},
		"HPAYMT":  {"CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG", "REMITADV"},
		"HRESCH":  {"BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH", "DSRCH", "POARCH", "TRANSRCH"},
		"PATRQT":  {"FAMRQT", "PWATRNY", "SUPNWK"},
		"PUBHLTH": {"DISASTER", "THREAT"},
		"HOPERAT": {
			"CAREMGT", "DONAT", "FRAUD", "GOV", "HACCRED", "HCOMPL", "HDECD", "HDIRECT", "HDM", "HLEGAL", "HOUTCOMS", "HPRGRP", "HQUALIMP",
			"HSYSADMIN", "LABELING", "METAMGT", "MEMADMIN", "MILCDM", "PATADMIN", "PATSFTY", "PERFMSR", "RECORDMGT", "SYSDEV", "HTEST", "TRAIN",
		},
	})
)

func parents(children map[string][]string) map[string][]string {
	of := map[string][]string{}
	for parent, list := range children {
		for _, child := range list {
			of[child] = append(of[child], parent)
		}
	}
	return of
}

// under reports whether the code is the other one, or part of it.
func under(parents map[string][]string, code, of string) bool {
	return code == of || slices.ContainsFunc(parents[code], func(p string) bool { return under(parents, p, of) })
}
