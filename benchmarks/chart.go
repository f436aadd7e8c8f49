package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
)

// Measures of the chart, in pixels.
const (
	chartWidth  = 860
	barsLeft    = 290 // names stand left of it
	barsWidth   = 470 // of the longest bar; its number stands right of it
	rowHeight   = 30
	barHeight   = 18
	panelHeader = 66
	margin      = 32
)

// Colours. The chart has a background of its own, for pages that are dark.
const (
	background = "#ffffff"
	border     = "#d0d7de"
	ink        = "#1f2328"
	faint      = "#59636e"
	accent     = "#0969da" // of our bar
	others     = "#afb8c1"
)

// chart returns an SVG picture of two workloads of all: a new token, and one that
// came before. The scales begin at zero and are linear, so a bar that is twice
// as long means twice the time.
func chart(all results) []byte {
	panels := []struct{ workload, title, unit string }{
		{"cold RS256 0.9 KB", "A token that is new", "1 = to check the RS256 signature with crypto/rsa, and nothing else"},
		{"hot RS256 0.9 KB", "A token that came before", "1 = to put a value into the request’s context, and nothing else"},
	}
	var body bytes.Buffer
	y := margin + 14
	writeText(&body, margin, y, 20, ink, "bold", "start", "CPU time per authenticated request")
	y += 22
	writeText(&body, margin, y, 13, faint, "normal", "start",
		all.where()+"; shorter is better")
	y += 6
	for _, p := range panels {
		i := slices.IndexFunc(all.Workloads, func(r result) bool { return r.Workload == p.workload })
		if i < 0 {
			continue
		}
		writeText(&body, margin, y+34, 16, ink, "bold", "start", p.title)
		writeText(&body, margin, y+54, 13, faint, "normal", "start", p.unit)
		y = writeBars(&body, y+panelHeader, all.Workloads[i])
	}
	height := y + margin - 8

	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" `+
		`font-family="-apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif">`+"\n", chartWidth, height)
	fmt.Fprintf(&svg, `<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="%s" stroke="%s"/>`+"\n",
		chartWidth-1, height-1, background, border)
	body.WriteTo(&svg)
	fmt.Fprintln(&svg, "</svg>")
	return svg.Bytes()
}

// writeBars draws a bar for each library that was measured, the shortest first,
// and returns where the next thing may be drawn.
func writeBars(w io.Writer, y int, r result) int {
	bars := slices.DeleteFunc(slices.Clone(r.Contenders), func(f figure) bool { return f.Problem != "" })
	slices.SortFunc(bars, func(a, b figure) int { return cmp.Compare(a.Ratio, b.Ratio) })
	if len(bars) == 0 {
		return y
	}
	longest := bars[len(bars)-1].Ratio
	one := barsLeft + barsWidth/longest
	fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/>`+"\n", one, one, y, y+len(bars)*rowHeight, faint)
	for _, f := range bars {
		fill, weight := others, "normal"
		if f.Name == ours.name {
			fill, weight = accent, "bold"
		}
		width := max(2, f.Ratio/longest*barsWidth)
		middle := y + rowHeight/2
		writeText(w, barsLeft-12, middle+5, 14, ink, weight, "end", f.Name)
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n",
			barsLeft, middle-barHeight/2, width, barHeight, fill)
		fmt.Fprintf(w, `<text x="%.1f" y="%d" font-size="14" font-weight="%s" fill="%s">%s ×</text>`+"\n",
			barsLeft+width+8, middle+5, weight, ink, multiple(f.Ratio))
		y += rowHeight
	}
	return y
}

func writeText(w io.Writer, x, y, size int, fill, weight, anchor, text string) {
	fmt.Fprintf(w, `<text x="%d" y="%d" font-size="%d" font-weight="%s" text-anchor="%s" fill="%s">`, x, y, size, weight, anchor, fill)
	xml.EscapeText(w, []byte(text))
	fmt.Fprintln(w, "</text>")
}
