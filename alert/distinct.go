package alert

import (
	"math"
	"math/bits"
)

// A distinct counts different things in one KiB, whatever their number: a
// HyperLogLog, which is wrong by three percent. It keeps nothing of the things
// themselves, which may be the ids of patients.
// https://algo.inria.fr/flajolet/Publications/FlFuGaMe07.pdf
type distinct struct {
	registers [registers]uint8
	sum       float64 // of 2^-register
	zeros     int
}

const (
	registerBits = 10
	registers    = 1 << registerBits
)

func newDistinct() *distinct { return &distinct{sum: registers, zeros: registers} }

// add notes the thing with the hash.
func (d *distinct) add(hash uint64) {
	i := hash >> (64 - registerBits)
	rank := uint8(bits.LeadingZeros64(hash<<registerBits|1) + 1)
	old := d.registers[i]
	if rank <= old {
		return
	}
	if old == 0 {
		d.zeros--
	}
	d.sum += math.Exp2(-float64(rank)) - math.Exp2(-float64(old))
	d.registers[i] = rank
}

// count returns about how many things were noted.
func (d *distinct) count() int {
	const alpha = 0.7213 / (1 + 1.079/registers)
	n := alpha * registers * registers / d.sum
	if n <= 2.5*registers && d.zeros > 0 {
		n = registers * math.Log(registers/float64(d.zeros))
	}
	return int(math.Round(n))
}
