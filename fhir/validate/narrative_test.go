package validate_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// A narrative formats, and does nothing else. T222
func TestNarrative(t *testing.T) {
	div := func(s string) string { return `<div xmlns="http://www.w3.org/1999/xhtml">` + s + `</div>` }
	for _, tt := range []struct {
		claim, div string
		valid      bool
	}{
		{"text", div("x"), true},
		{"formatting", div(`<p class="a">x <b>y</b><br/>z<br /></p><table><tr><td colspan='2'>1 &lt; 2 &amp; &#233; &#xe9; &eacute; &nbsp;</td></tr></table>`), true},
		{"links", div(`<a href="#x">x</a><a href="http://x/y">x</a><a name="z">x</a><a href="Patient/1?x=y:z">x</a><a href="mailto:a@b">x</a>`), true},
		{"an image alone", div(`<img src="data:image/png;base64,AAAA" alt="x"/>`), true},
		{"a style", div(`<p style="color: red; background: url('a.png')">x</p>`), true},
		{"a comment", div(`x<!-- <b>y</b> - z -->`), true},
		{"space around", " \n" + div("x") + "\n", true},
		{"space in tags", `<div xmlns = "http://www.w3.org/1999/xhtml" >x</div >`, true},

		{"nothing", "", false},
		{"no content", div(" \n "), false},
		{"no content but a comment", div("<!-- x -->"), false},
		{"a space that cannot be seen", div("&nbsp;"), true},
		{"plain text", "x", false},
		{"another element", `<p xmlns="http://www.w3.org/1999/xhtml">x</p>`, false},
		{"no namespace", `<div>x</div>`, false},
		{"another namespace", `<div xmlns="http://www.w3.org/2000/svg">x</div>`, false},
		{"another namespace inside", div(`<p xmlns="http://www.w3.org/2000/svg">x</p>`), false},
		{"a prefix", `<h:div xmlns:h="http://www.w3.org/1999/xhtml">x</h:div>`, false},
		{"upper case", `<DIV xmlns="http://www.w3.org/1999/xhtml">x</DIV>`, false},
		{"two divs", div("x") + div("y"), false},
		{"text after", div("x") + "y", false},
		{"a comment after", div("x") + "<!-- y -->", false},
		{"a self-closed root", `<div xmlns="http://www.w3.org/1999/xhtml"/>`, false},

		{"a script", div(`x<script>alert(1)</script>`), false},
		{"a script in another case", div(`x<ScRiPt>alert(1)</ScRiPt>`), false},
		{"a handler", div(`<p onclick="alert(1)">x</p>`), false},
		{"a handler on an image", div(`<img src="x" onerror="alert(1)"/>`), false},
		{"a handler after a slash", div(`<img/onerror="alert(1)"/>`), false},
		{"an svg", div(`x<svg onload="alert(1)"/>`), false},
		{"an iframe", div(`x<iframe src="http://x"/>`), false},
		{"a form", div(`<form action="http://x">x</form>`), false},
		{"a style sheet", div(`x<style>@import "http://x"</style>`), false},
		{"a link element", div(`x<link rel="stylesheet" href="http://x"/>`), false},
		{"a base", div(`x<base href="http://x"/>`), false},
		{"math", div(`x<math><mi>x</mi></math>`), false},
		{"a javascript link", div(`<a href="javascript:alert(1)">x</a>`), false},
		{"a javascript link with spaces", div("<a href=\" java\tscript:alert(1)\">x</a>"), false},
		{"a javascript link by entities", div(`<a href="&#106;ava&#x73;cript&colon;alert(1)">x</a>`), false},
		{"a javascript link by numbers", div(`<a href="java&#10;script&#58;alert(1)">x</a>`), false},
		{"a javascript link in another case", div(`<a href="JaVaScRiPt:alert(1)">x</a>`), false},
		{"a vbscript link", div(`<a href="vbscript:x">x</a>`), false},
		{"a data link", div(`<a href="data:text/html,x">x</a>`), false},
		{"an svg as image", div(`<img src="data:image/svg+xml;base64,AAAA"/>`), false},
		{"a style that imports", div(`<p style="@import 'http://x'">x</p>`), false},
		{"a style that runs", div(`<p style="width: expression(alert(1))">x</p>`), false},
		{"a style that runs behind a comment", div(`<p style="width: exp/**/ression(alert(1))">x</p>`), false},
		{"a style that runs behind an escape", div(`<p style="width: \65xpression(alert(1))">x</p>`), false},
		{"a style with a script as image", div(`<p style="background: url(javascript:alert(1))">x</p>`), false},
		{"a style with a script as quoted image", div(`<p style="background: url( &quot;javascript:alert(1)&quot;)">x</p>`), false},

		{"an unclosed element", div(`<p>x`), false},
		{"crossed elements", div(`<b><i>x</b></i>`), false},
		{"an unclosed br", div(`x<br>y`), false},
		{"an unquoted attribute", div(`<p class=a>x</p>`), false},
		{"an attribute without value", div(`<td nowrap>x</td>`), false},
		{"an attribute twice", div(`<p class="a" class="b">x</p>`), false},
		{"attributes without space", div(`<p class="a"id="b">x</p>`), false},
		{"a tag in an attribute", div(`<p title="<script>">x</p>`), false},
		{"a bare ampersand", div(`a & b`), false},
		{"an unknown entity", div(`&xxe;`), false},
		{"an entity of no character", div(`&#0;`), false},
		{"an entity of half a character", div(`&#xd800;`), false},
		{"CDATA", div(`x<![CDATA[<script>]]>`), false},
		{"a doctype", `<!DOCTYPE html>` + div(`x`), false},
		{"an entity declaration", `<!DOCTYPE x [<!ENTITY xxe SYSTEM "file:///x">]>` + div(`&xxe;`), false},
		{"a processing instruction", div(`x<?php x ?>`), false},
		{"an XML declaration", `<?xml version="1.0"?>` + div(`x`), false},
		{"a comment that HTML ends early", div(`x<!--><img src="x" onerror="alert(1)"/>-->`), false},
		{"another comment that HTML ends early", div(`x<!---><img src="x" onerror="alert(1)"/>-->`), false},
		{"a comment with two dashes", div(`x<!-- a -- b -->`), false},
		{"an unclosed comment", div(`x<!-- a`), false},
		{"deep nesting", div(strings.Repeat("<b>", 200) + "x" + strings.Repeat("</b>", 200)), false},
		{"a control character", div("x\x00"), false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			text, err := json.Marshal(tt.div)
			if err != nil {
				t.Fatal(err)
			}
			got := faults(t, `{"resourceType":"Patient","text":{"status":"generated","div":`+string(text)+`}}`)
			if valid := len(got) == 0; valid != tt.valid {
				t.Errorf("got %v for %s", got, tt.div)
			}
		})
	}
}
