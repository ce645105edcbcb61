package evidence

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Test is a Go test function.
type Test struct {
	Package string `json:"package"` // its directory in the project
	Name    string `json:"name"`
}

// Claims says which tests claim to prove which requirement: the ids in the comments of
// test functions and before them. "TEN-01 to TEN-03" are three.
func Claims(project fs.FS) (map[string][]Test, error) {
	claims := map[string][]Test{}
	err := fs.WalkDir(project, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(project, name)
		if err != nil {
			return err
		}
		return claimsOf(claims, name, text)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tests: %w", err)
	}
	for id, tests := range claims {
		slices.SortFunc(tests, func(a, b Test) int { return strings.Compare(a.Package+" "+a.Name, b.Package+" "+b.Name) })
		claims[id] = slices.Compact(tests)
	}
	return claims, nil
}

// claimsOf adds what the tests in one file claim. A comment between two functions
// is of the one that follows. A part of a test that is a function of its own, by
// name testX, is of the tests that name it; other helpers prove nothing.
func claimsOf(claims map[string][]Test, name string, text []byte) error {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	var begin token.Pos
	for _, decl := range file.Decls {
		from := begin
		begin = decl.End()
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Recv != nil {
			continue
		}
		for _, group := range file.Comments {
			if group.Pos() < from || group.Pos() > fn.End() {
				continue
			}
			for _, id := range ids(group.Text()) {
				for _, test := range testsOf(file, fn) {
					claims[id] = append(claims[id], Test{path.Dir(name), test})
				}
			}
		}
	}
	return nil
}

// testsOf are the tests that a function is, or is a part of.
func testsOf(file *ast.File, fn *ast.FuncDecl) (tests []string) {
	if isTest(fn) {
		return []string{fn.Name.Name}
	}
	if !strings.HasPrefix(fn.Name.Name, "test") {
		return nil
	}
	for _, decl := range file.Decls {
		if whole, ok := decl.(*ast.FuncDecl); ok && isTest(whole) && names(whole, fn.Name.Name) {
			tests = append(tests, whole.Name.Name)
		}
	}
	return tests
}

func isTest(fn *ast.FuncDecl) bool {
	rest, ok := strings.CutPrefix(fn.Name.Name, "Test")
	return fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Fuzz") || ok && rest != "Main" && rest != "")
}

// names reports whether a function mentions a name.
func names(fn *ast.FuncDecl, name string) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == name
		return !found
	})
	return found
}

var idForm = regexp.MustCompile(`\b([A-Z]{2,5})-([0-9]{2})\b(?: to ([A-Z]{2,5})-([0-9]{2})\b)?`)

// ids are those of requirements in a text.
func ids(text string) (list []string) {
	for _, m := range idForm.FindAllStringSubmatch(text, -1) {
		first, _ := strconv.Atoi(m[2])
		last := first
		if m[3] == m[1] {
			last, _ = strconv.Atoi(m[4])
		}
		for n := first; n <= last; n++ {
			list = append(list, fmt.Sprintf("%s-%02d", m[1], n))
		}
	}
	return list
}
