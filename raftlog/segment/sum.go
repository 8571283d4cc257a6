package segment

import "hash/crc32"

// Sum is the checksum of some of an entry's data, taken by who has put it there: then
// it is at hand, and others do so at the same time.
type Sum struct {
	From, Len int
	CRC       uint32
}

// sumChunk is how much is copied before it is summed, so that it is in a processor's
// nearest memory still.
const sumChunk = 16 << 10

// CopySum copies pieces to dst, which has their size, and gives its checksum.
func CopySum(dst []byte, pieces [][]byte) (sum uint32) {
	for _, p := range pieces {
		for len(p) > 0 {
			n := copy(dst, p[:min(sumChunk, len(p))])
			sum = checksumMore(sum, dst[:n])
			dst, p = dst[n:], p[n:]
		}
	}
	return sum
}

// checksumOf is data's checksum. The sums of parts, in their order, are known.
func checksumOf(data []byte, parts []Sum) (sum uint32) {
	at, size, shift := 0, -1, uint32(0)
	for _, p := range parts {
		if p.Len != size { // mostly they are alike
			size, shift = p.Len, power(8*uint64(p.Len))
		}
		sum = checksumMore(sum, data[at:p.From])
		sum = times(shift, sum) ^ p.CRC
		at = p.From + p.Len
	}
	return checksumMore(sum, data[at:])
}

// A checksum is a polynomial over the field of two elements, the coefficient of x^0
// in its highest bit, modulo that of the checksum. What stands in front of n more
// bits is multiplied by x^n thereby.

// powers are x^(2^i).
var powers = makePowers()

func makePowers() (p [64]uint32) {
	p[0] = 1 << 30
	for i := 1; i < len(p); i++ {
		p[i] = times(p[i-1], p[i-1])
	}
	return p
}

// power is x^n.
func power(n uint64) uint32 {
	p := uint32(1 << 31)
	for i := 0; n > 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			p = times(powers[i], p)
		}
	}
	return p
}

// times multiplies two polynomials.
func times(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}
