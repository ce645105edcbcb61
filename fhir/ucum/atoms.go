package ucum

import (
	"math/big"
	"strings"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
)

// An atom is a unit that is not composed. Metric ones take prefixes.
type atom struct {
	metric bool
	value  string // how many of it
	of     string // what; "" for a base unit
	offset string // of special units that are counted from elsewhere
	alone  bool
}

// prefixes of metric units.
// https://ucum.org/ucum#section-Prefixes
var prefixes = map[string]string{
	"Y": "1e24", "Z": "1e21", "E": "1e18", "P": "1e15", "T": "1e12", "G": "1e9", "M": "1e6", "k": "1e3", "h": "1e2", "da": "1e1",
	"d": "1e-1", "c": "1e-2", "m": "1e-3", "u": "1e-6", "n": "1e-9", "p": "1e-12", "f": "1e-15", "a": "1e-18", "z": "1e-21", "y": "1e-24",
	"Ki": "1024", "Mi": "1048576", "Gi": "1073741824", "Ti": "1099511627776",
}

// find returns the unit of a symbol, which may have a prefix.
func find(symbol string) (Unit, *fhir.Error) {
	if a, ok := atoms()[symbol]; ok {
		return a.unit(symbol)
	}
	for n := 2; n > 0; n-- {
		if len(symbol) <= n {
			continue
		}
		scale, isPrefix := prefixes[symbol[:n]]
		a, ok := atoms()[symbol[n:]]
		if !isPrefix || !ok || !a.metric {
			continue
		}
		u, err := a.unit(symbol[n:])
		if err != nil {
			return u, err
		}
		by, _ := new(big.Rat).SetString(scale)
		u.scale = by.Mul(by, u.scale)
		return u, nil
	}
	return Unit{}, errAtom()
}

// unit returns the unit that an atom is.
func (a atom) unit(symbol string) (Unit, *fhir.Error) {
	u := Unit{alone: a.alone}
	if u.scale, _ = new(big.Rat).SetString(a.value); a.of == "" {
		u.dimension = []power{{symbol, 1}}
		return u, nil
	}
	of, err := parse(a.of)
	if err != nil {
		return Unit{}, err
	}
	u.dimension = of.dimension
	if a.offset != "" {
		u.offset, _ = new(big.Rat).SetString(a.offset)
		u.offset.Mul(u.offset, u.scale)
	}
	u.scale.Mul(u.scale, of.scale)
	return u, nil
}

// atoms reads the table below.
var atoms = sync.OnceValue(func() map[string]atom {
	m := map[string]atom{}
	for group, metric := range map[string]bool{metricAtoms: true, otherAtoms: false} {
		for line := range strings.Lines(group) {
			f := strings.Fields(line)
			if len(f) == 0 {
				continue
			}
			m[f[0]] = atom{metric: metric, value: f[1], of: f[2]}
		}
	}
	for symbol := range strings.FieldsSeq("m s g rad K C cd") {
		m[symbol] = atom{metric: true, value: "1"}
	}
	for symbol := range strings.FieldsSeq(arbitrary) {
		m[symbol] = atom{value: "1"}
	}
	m["[iU]"] = atom{metric: true, value: "1"}
	m["[IU]"] = atom{metric: true, value: "1", of: "[iU]"}
	for symbol := range strings.FieldsSeq("[pH] [p'diop] %[slope] [hp'_X] [hp'_C] [hp'_M] [hp'_Q] [m/s2/Hz^(1/2)]") {
		m[symbol] = atom{value: "1", alone: true}
	}
	for symbol := range strings.FieldsSeq("Np B B[SPL] B[V] B[mV] B[uV] B[10.nV] B[W] B[kW] bit_s") {
		m[symbol] = atom{metric: true, value: "1", alone: true}
	}
	m["Cel"] = atom{metric: true, value: "1", of: "K", offset: "273.15", alone: true}
	m["[degF]"] = atom{value: "5/9", of: "K", offset: "459.67", alone: true}
	m["[degRe]"] = atom{value: "5/4", of: "K", offset: "218.52", alone: true}
	return m
})

// arbitrary units measure what a procedure of their own says: no one of them
// can be converted to another.
// https://ucum.org/ucum#section-Arbitrary-Units
const arbitrary = `
	[arb'U] [USP'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U] [knk'U] [mclg'U] [tb'U]
	[CCID_50] [TCID_50] [EID_50] [PFU] [FFU] [CFU] [IR] [BAU] [AU] [Amb'a'1'U] [PNU] [Lf] [D'ag'U] [FEU] [ELU] [EU]
	[hp_X] [hp_C] [hp_M] [hp_Q] [kp_X] [kp_C] [kp_M] [kp_Q]`

// https://ucum.org/ucum#section-Tables-of-Terminal-Symbols
const metricAtoms = `
	mol 6.0221367e23 1
	sr 1 rad2
	Hz 1 s-1
	N 1 kg.m/s2
	Pa 1 N/m2
	J 1 N.m
	W 1 J/s
	A 1 C/s
	V 1 J/C
	F 1 C/V
	Ohm 1 V/A
	S 1 Ohm-1
	Wb 1 V.s
	T 1 Wb/m2
	H 1 Wb/A
	lm 1 cd.sr
	lx 1 lm/m2
	Bq 1 s-1
	Gy 1 J/kg
	Sv 1 J/kg
	l 1 dm3
	L 1 dm3
	ar 100 m2
	t 1e3 kg
	bar 1e5 Pa
	u 1.6605402e-24 g
	eV 1 [e].V
	pc 3.085678e16 m
	[c] 299792458 m/s
	[h] 6.6260755e-34 J.s
	[k] 1.380658e-23 J/K
	[eps_0] 8.854187817e-12 F/m
	[mu_0] 12.56637061435917295384e-7 N/A2
	[e] 1.60217733e-19 C
	[m_e] 9.1093897e-28 g
	[m_p] 1.6726231e-24 g
	[G] 6.67259e-11 m3.kg-1.s-2
	[g] 9.80665 m/s2
	[ly] 31557600 [c].s
	gf 1 g.[g]
	Ky 1 cm-1
	Gal 1 cm/s2
	dyn 1 g.cm/s2
	erg 1 dyn.cm
	P 1 dyn.s/cm2
	Bi 10 A
	St 1 cm2/s
	Mx 1e-8 Wb
	G 1e-4 T
	Oe 79.57747154594766788 A/m
	Gb 0.7957747154594766788 A
	sb 1 cd/cm2
	Lmb 3183.098861837906715 cd/m2
	ph 1e4 lx
	Ci 37e9 Bq
	R 2.58e-4 C/kg
	RAD 100 erg/g
	REM 1 RAD
	cal_[15] 4.18580 J
	cal_[20] 4.18190 J
	cal_m 4.19002 J
	cal_IT 4.1868 J
	cal_th 4.184 J
	cal 4.184 J
	tex 1 g/km
	m[H2O] 9.80665 kPa
	m[Hg] 133.3220 kPa
	g% 1 g/dl
	eq 1 mol
	osm 1 mol
	kat 1 mol/s
	U 1 umol/min
	st 1 m3
	mho 1 S
	bit 1 1
	By 8 1
	Bd 1 s-1
`

const otherAtoms = `
	10* 10 1
	10^ 10 1
	[pi] 3.1415926535897932384626433832795028841971693993751058209749445923 1
	% 1e-2 1
	[ppth] 1e-3 1
	[ppm] 1e-6 1
	[ppb] 1e-9 1
	[pptr] 1e-12 1
	gon 0.9 deg
	deg 1 [pi].rad/180
	' 1 deg/60
	'' 1 deg/3600
	min 60 s
	h 60 min
	d 24 h
	wk 7 d
	a_t 365.24219 d
	a_j 365.25 d
	a_g 365.2425 d
	a 365.25 d
	mo_s 29.53059 d
	mo_j 30.4375 d
	mo_g 30.436875 d
	mo 30.4375 d
	AU 149597.870691 Mm
	atm 101325 Pa
	[lbf_av] 1 [lb_av].[g]
	[in_i] 2.54 cm
	[ft_i] 12 [in_i]
	[yd_i] 3 [ft_i]
	[mi_i] 5280 [ft_i]
	[fth_i] 6 [ft_i]
	[nmi_i] 1852 m
	[kn_i] 1 [nmi_i]/h
	[sin_i] 1 [in_i]2
	[sft_i] 1 [ft_i]2
	[syd_i] 1 [yd_i]2
	[cin_i] 1 [in_i]3
	[cft_i] 1 [ft_i]3
	[cyd_i] 1 [yd_i]3
	[bf_i] 144 [in_i]3
	[cr_i] 128 [ft_i]3
	[mil_i] 1e-3 [in_i]
	[cml_i] 1 [pi].[mil_i]2/4
	[hd_i] 4 [in_i]
	[ft_us] 1200 m/3937
	[yd_us] 3 [ft_us]
	[in_us] 1 [ft_us]/12
	[rd_us] 16.5 [ft_us]
	[ch_us] 4 [rd_us]
	[lk_us] 1 [ch_us]/100
	[rch_us] 100 [ft_us]
	[rlk_us] 1 [rch_us]/100
	[fth_us] 6 [ft_us]
	[fur_us] 40 [rd_us]
	[mi_us] 8 [fur_us]
	[acr_us] 160 [rd_us]2
	[srd_us] 1 [rd_us]2
	[smi_us] 1 [mi_us]2
	[sct] 1 [mi_us]2
	[twp] 36 [sct]
	[mil_us] 1e-3 [in_us]
	[in_br] 2.539998 cm
	[ft_br] 12 [in_br]
	[yd_br] 3 [ft_br]
	[mi_br] 5280 [ft_br]
	[gal_us] 231 [in_i]3
	[bbl_us] 42 [gal_us]
	[qt_us] 1 [gal_us]/4
	[pt_us] 1 [qt_us]/2
	[gil_us] 1 [pt_us]/4
	[foz_us] 1 [gil_us]/4
	[fdr_us] 1 [foz_us]/8
	[min_us] 1 [fdr_us]/60
	[crd_us] 128 [ft_i]3
	[bu_us] 2150.42 [in_i]3
	[gal_wi] 1 [bu_us]/8
	[pk_us] 1 [bu_us]/4
	[dqt_us] 1 [pk_us]/8
	[dpt_us] 1 [dqt_us]/2
	[tbs_us] 1 [foz_us]/2
	[tsp_us] 1 [tbs_us]/3
	[cup_us] 16 [tbs_us]
	[foz_m] 30 mL
	[cup_m] 240 mL
	[tsp_m] 5 mL
	[tbs_m] 15 mL
	[gal_br] 4.54609 l
	[pk_br] 2 [gal_br]
	[bu_br] 4 [pk_br]
	[qt_br] 1 [gal_br]/4
	[pt_br] 1 [qt_br]/2
	[gil_br] 1 [pt_br]/4
	[foz_br] 1 [gil_br]/5
	[fdr_br] 1 [foz_br]/8
	[min_br] 1 [fdr_br]/60
	[gr] 64.79891 mg
	[lb_av] 7000 [gr]
	[oz_av] 1 [lb_av]/16
	[dr_av] 1 [oz_av]/16
	[scwt_av] 100 [lb_av]
	[lcwt_av] 112 [lb_av]
	[ston_av] 20 [scwt_av]
	[lton_av] 20 [lcwt_av]
	[stone_av] 14 [lb_av]
	[pwt_tr] 24 [gr]
	[oz_tr] 20 [pwt_tr]
	[lb_tr] 12 [oz_tr]
	[sc_ap] 20 [gr]
	[dr_ap] 3 [sc_ap]
	[oz_ap] 8 [dr_ap]
	[lb_ap] 12 [oz_ap]
	[oz_m] 28 g
	[lne] 1 [in_i]/12
	[pnt] 1 [lne]/6
	[pca] 12 [pnt]
	[degR] 5 K/9
	[Cal] 1 kcal_th
	[Btu_39] 1.05967 kJ
	[Btu_59] 1.05480 kJ
	[Btu_60] 1.05468 kJ
	[Btu_m] 1.05587 kJ
	[Btu_IT] 1.05505585262 kJ
	[Btu_th] 1.054350 kJ
	[Btu] 1.054350 kJ
	[HP] 550 [ft_i].[lbf_av]/s
	[den] 1 g/9/km
	[in_i'H2O] 1 m[H2O].[in_i]/m
	[in_i'Hg] 1 m[Hg].[in_i]/m
	[PRU] 1 mm[Hg].s/ml
	[wood'U] 1 mm[Hg].min/L
	[diop] 1 m-1
	[mesh_i] 1 [in_i]-1
	[Ch] 1 mm/3
	[drp] 1 ml/20
	[hnsf'U] 1 1
	[MET] 3.5 mL/min/kg
	[S] 1e-13 s
	[HPF] 1 1
	[LPF] 100 1
	Ao 0.1 nm
	b 100 fm2
	att 1 kgf/cm2
	[psi] 1 [lbf_av]/[in_i]2
	circ 2 [pi].rad
	sph 4 [pi].sr
	[car_m] 0.2 g
	[car_Au] 1/24 1
	[smoot] 67 [in_i]
`
