package bearer_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A gene is one kind of members of a JSON object, again and again until their share
// of the room is full.
type gene struct {
	name, value int // of names and values
	size        int // of the value, in its own unit
	pad         int // bytes of a name besides what tells it from others
	share       int // of the room, beside the other genes' shares
}

// A genome is a recipe for a JSON object.
type genome struct {
	genes []gene
	end   int // of ends
	split int // of eight, for a token with two such objects
}

// pick returns one of n things that the genome stands for, where no object is wanted.
func (g genome) pick(n int) int { return (g.genes[0].name*len(values) + g.genes[0].value) % n }

func (g genome) String() string {
	var b strings.Builder
	for _, x := range g.genes {
		fmt.Fprintf(&b, "%d×(%s+%d: %s×%d) ", x.share, names[x.name].about, x.pad, values[x.value].about, x.size)
	}
	return b.String() + ends[g.end].about
}

// counter writes n in the given digits.
func counter(n int, digits ...string) string {
	text := ""
	for ; n > 0 || text == ""; n /= len(digits) {
		text += digits[n%len(digits)]
	}
	return text
}

func runes(from, to rune) []string {
	var all []string
	for r := from; r <= to; r++ {
		all = append(all, string(r))
	}
	return all
}

var (
	letters   = runes('a', 'z')
	umlauts   = runes('à', 'ÿ')
	emoji     = runes('😀', '🙏')
	escapes   = []string{`\b`, `\f`, `\n`, `\r`, `\t`, `\"`, `\/`, `\\`}
	hex       = []string{`\u0061`, `\u00e9`, `\u4e00`, `\u007A`}
	surrogate = []string{`\ud83d\ude00`, `\uD83D\uDE01`, `\ud83d\ude02`, `\ud83d\ude03`}
)

// names are ways to name the nth member of an object, each differently.
var names = []struct {
	about string
	make  func(n, pad int) string
}{
	{"short", func(n, pad int) string { return counter(n, letters...) + strings.Repeat("x", pad) }},
	{"late", func(n, pad int) string { return strings.Repeat("x", pad) + counter(n, letters...) }},
	// The same to who looks at length, first and last byte alone.
	{"alike", func(n, pad int) string { return "a" + strings.Repeat("x", pad) + fmt.Sprintf("%04d", n) + "z" }},
	{"escapes", func(n, pad int) string { return strings.Repeat(`\n`, pad/2) + counter(n, escapes...) }},
	{"hex", func(n, pad int) string { return counter(n, hex...) + strings.Repeat(`\u0061`, pad/6) }},
	{"surrogates", func(n, pad int) string { return counter(n, surrogate...) + strings.Repeat(`\ud83d\ude00`, pad/12) }},
	{"umlauts", func(n, pad int) string { return counter(n, umlauts...) + strings.Repeat("é", pad/2) }},
	{"emoji", func(n, pad int) string { return counter(n, emoji...) + strings.Repeat("😀", pad/4) }},
	{"path", func(n, pad int) string { return "realm_access." + counter(n, letters...) + strings.Repeat(".a", pad/2) }},
	{"known", nil}, // the nth name that counts, by its turn
}

const known = 9

// values are ways to make a value of some size.
var values = []struct {
	about string
	make  func(size int) string
}{
	{"0", func(int) string { return "0" }},
	{"null", func(int) string { return "null" }},
	{"string", func(n int) string { return `"` + strings.Repeat("a", n) + `"` }},
	{"capitals", func(n int) string { return `"` + strings.Repeat("A", n) + `"` }},
	{"escapes", func(n int) string { return `"` + strings.Repeat(`\n`, n) + `"` }},
	{"rare escapes", func(n int) string { return `"` + strings.Repeat(`\na`, n) + `"` }},
	{"hex", func(n int) string { return `"` + strings.Repeat(`\u00e9`, n) + `"` }},
	{"surrogates", func(n int) string { return `"` + strings.Repeat(`\ud83d\ude00`, n) + `"` }},
	{"mixed escapes", func(n int) string { return `"` + strings.Repeat(`\nx\u0061é`, n) + `"` }},
	{"umlauts", func(n int) string { return `"` + strings.Repeat("é", n) + `"` }},
	{"han", func(n int) string { return `"` + strings.Repeat("一", n) + `"` }},
	{"emoji", func(n int) string { return `"` + strings.Repeat("😀", n) + `"` }},
	{"digits", func(n int) string { return strings.Repeat("9", n+1) }},
	// Halfway between two floats, but for its last digit.
	{"halfway", func(n int) string { return "9007199254740993." + strings.Repeat("0", n) + "1" }},
	{"fraction", func(n int) string { return "1." + strings.Repeat("7", n+1) + "e-305" }},
	{"tiny", func(n int) string {
		return "0.00000" + strings.Repeat("2470328229206232720882843964341106861825299013071623822127928412503377536351043", 1+n/80) + "e-318"
	}},
	{"space", func(n int) string { return strings.Repeat(" ", n) + "0" }},
	{"lines", func(n int) string { return strings.Repeat("\r\n\t ", n) + "0" }},
	{"{}", func(int) string { return "{}" }},
	{"[]", func(int) string { return "[]" }},
	{"zeros", func(n int) string { return "[0" + strings.Repeat(",0", n) + "]" }},
	{"literals", func(n int) string { return "[null" + strings.Repeat(",true,false", n) + "]" }},
	{"strings", func(n int) string { return `[""` + strings.Repeat(`,"a"`, n) + "]" }},
	{"numbered strings", func(n int) string {
		return list(n+1, "[", func(i int) string { return `"` + counter(i, letters...) + `"` }, "]")
	}},
	{"words", func(n int) string { // as scopes are written
		var all []string
		for i := range n {
			all = append(all, counter(i, letters...))
		}
		return `"` + strings.Join(all, " ") + `"`
	}},
	{"words alike", func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("a%04dz", i))
		}
		return `"` + strings.Join(all, " ") + `"`
	}},
	{"objects", func(n int) string { return "[{}" + strings.Repeat(",{}", n) + "]" }},
	{"arrays", func(n int) string { return "[[]" + strings.Repeat(",[]", n) + "]" }},
	{"objects of one", func(n int) string { return `[{"":0}` + strings.Repeat(`,{"":0}`, n) + "]" }},
	{"objects of nine alike", func(n int) string { return inner(n+1, 9, 2) }},
	{"objects of 32 alike", func(n int) string { return inner(n+1, 32, 2) }},
	{"objects of 33", func(n int) string { return inner(n+1, 33, 0) }},
	{"objects of 65 alike", func(n int) string { return inner(n+1, 65, 2) }},
	{"members", func(n int) string { return object(n+1, 0) }},
	{"members alike", func(n int) string { return object(n+1, 2) }},
	{"deep arrays", func(n int) string { n = n%30 + 1; return strings.Repeat("[", n) + strings.Repeat("]", n) }},
	{"deep objects", func(n int) string { n %= 30; return strings.Repeat(`{"":`, n) + "0" + strings.Repeat("}", n) }},
	{"deep, 33 each", func(n int) string {
		n %= 30
		return strings.Repeat(strings.TrimSuffix(object(33, 0), "0}"), n) + "0" + strings.Repeat("}", n)
	}},
	{"paths", func(n int) string { // as a nested claim
		n %= 30
		return strings.Repeat(`{"a":0,"realm_access":`, n) + "0" + strings.Repeat("}", n)
	}},
	{"unclosed", func(n int) string { return strings.Repeat("[", n) }},
}

func list(n int, open string, element func(int) string, end string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = element(i)
	}
	return open + strings.Join(all, ",") + end
}

func object(n, name int) string {
	return list(n, "{", func(i int) string { return `"` + names[name].make(i, 0) + `":0` }, "}")
}

func inner(n, members, name int) string {
	return list(n, "[", func(int) string { return object(members, name) }, "]")
}

// ends are ways to end an object.
var ends = []struct{ about, text string }{
	{"}", "}"},
	{"cut off", ""},
	{"a member twice", `,"!":0,"!":0}`},
	{"more behind", "}]"},
	{"lone surrogate", `,"!":"\ud800"}`},
}

// render writes a genome out, in at most room bytes with what comes first and last.
// The names are those that count.
func (g genome) render(room int, first string, counting []string, last string) string {
	end := ends[g.end].text
	if last != "" {
		end = "," + last + end
	}
	var b strings.Builder
	b.WriteString("{" + cmp.Or(first, `"~":0`))
	shares := 0
	for _, x := range g.genes {
		shares += x.share
	}
	room -= len(end) + b.Len()
	start, part, n, turn := b.Len(), 0, 0, 0
	for _, x := range g.genes {
		part += x.share
		make, value := values[x.value].make, ""
		for full := start + room*part/shares; b.Len() < full; {
			name := ""
			if x.name != known {
				name = names[x.name].make(n, x.pad)
			} else if turn < len(counting) {
				name = counting[turn]
				turn++
			} else {
				break
			}
			n++
			left := full - b.Len() - len(`,"":`) - len(name)
			if left < 1 {
				break
			}
			// As large as fits.
			if value == "" || len(value) > left {
				unit := max(1, len(make(2))-len(make(1)))
				size := min(x.size, left/unit)
				for value = make(size); len(value) > left && size > 0; value = make(size) {
					size = min(size*left/len(value), size-1)
				}
			}
			if len(value) > left {
				break
			}
			b.WriteString(`,"` + name + `":` + value)
		}
	}
	return b.String() + end
}

// mutate returns g with a change or two.
func (g genome) mutate(r *rand.Rand, most int) genome {
	g.genes = slices.Clone(g.genes)
	for range 1 + r.IntN(2) {
		i := r.IntN(len(g.genes))
		x := &g.genes[i]
		switch r.IntN(10) {
		case 0:
			x.name = r.IntN(len(names))
		case 1:
			x.value = r.IntN(len(values))
		case 2, 3:
			x.size = max(0, x.size/2+r.IntN(x.size+2))
		case 4:
			x.size = 1 << r.IntN(15)
		case 5:
			x.pad = r.IntN(1 << r.IntN(8))
		case 6:
			x.share = 1 + r.IntN(8)
		case 7:
			if len(g.genes) < most {
				g.genes = slices.Insert(g.genes, i, randomGene(r))
			}
		case 8:
			if len(g.genes) > 1 {
				g.genes = slices.Delete(g.genes, i, i+1)
			}
		case 9:
			g.end = r.IntN(len(ends))
			g.split = 1 + r.IntN(7)
		}
	}
	return g
}

func randomGene(r *rand.Rand) gene {
	return gene{r.IntN(len(names)), r.IntN(len(values)), 1 << r.IntN(15), 0, 4}
}

// search looks for the genome of the greatest cost: from each kind of members alone, of
// each size, and then from the best of what it has seen, by chance and step by step. The cost of
// what is of no use is zero.
func search(rounds int, sizes []int, cost func(genome) float64) genome {
	type scored struct {
		genome
		cost float64
	}
	var best []scored // the worst first
	try := func(g genome) {
		s := scored{g, cost(g)}
		if s.cost == 0 {
			return
		}
		at, _ := slices.BinarySearchFunc(best, s, func(a, b scored) int { return cmp.Compare(b.cost, a.cost) })
		best = slices.Insert(best, at, s)
		best = best[:min(len(best), 12)]
	}
	for name := range names {
		for value := range values {
			for _, size := range sizes {
				try(genome{[]gene{{name, value, size, 0, 4}}, 0, 4})
			}
		}
	}
	r := rand.New(rand.NewPCG(1, uint64(rounds)))
	for range rounds {
		if len(best) == 0 {
			break
		}
		i := min(r.IntN(len(best)), r.IntN(len(best)))
		try(best[i].mutate(r, 4))
	}
	if len(best) == 0 {
		return genome{genes: []gene{{share: 1}}}
	}
	// A cost may have been measured at a bad moment.
	for i := range best {
		best[i].cost = min(cost(best[i].genome), cost(best[i].genome))
	}
	return slices.MaxFunc(best, func(a, b scored) int { return cmp.Compare(a.cost, b.cost) }).genome
}
