package origin

import (
	"strings"
	"testing"
)

func TestStatement(t *testing.T) {
	for _, test := range []struct{ in, sql, params string }{
		{"select * from u where id = @id", "select * from u where id = $1", "id"},
		{"select @b, @a, @b", "select $1, $2, $1", "b a"},
		{"select id=@id,x>=@x,y||@y", "select id=$1,x>=$2,y||$3", "id x y"},
		{"select -@a, +@b, a-@c", "select -$1, +$2, a-$3", "a b c"},
		{"select @a::int, @a :: text", "select $1::int, $1 :: text", "a"},
		{"select (@a),@b", "select ($1),$2", "a b"},
		{"select ARRAY[@a]", "select ARRAY[$1]", "a"},
		{"select 1 limit@n", "select 1 limit $1", "n"},
		{"select '@a', '''@a', 'x\\', @b", "select '@a', '''@a', 'x\\', $1", "b"},
		{`select E'\'@a', e'\\', @b`, `select E'\'@a', e'\\', $1`, "b"},
		{"select E'a'\n'\\'@a', @b", "select E'a'\n'\\'@a', $1", "b"},
		{"select E'a' -- c\n '\\'@a', @b", "select E'a' -- c\n '\\'@a', $1", "b"},
		{"select typE'\\', @b", "select typE'\\', $1", "b"},
		{`select "@a", """@a", @b`, `select "@a", """@a", $1`, "b"},
		{`select U&"\0041@a", U&'\0041@a', @b`, `select U&"\0041@a", U&'\0041@a', $1`, "b"},
		{"select $$@a$$, $x$ $$ @a $x$, @b", "select $$@a$$, $x$ $$ @a $x$, $1", "b"},
		{"select $é$@a$é$, @b", "select $é$@a$é$, $1", "b"},
		{"select a$x$, @b, c$x$", "select a$x$, $1, c$x$", "b"},
		{"select 1 -- @a\n, @b", "select 1 -- @a\n, $1", "b"},
		{"select 1 -- @a\r, @b", "select 1 -- @a\r, $1", "b"},
		{"select 1 /* @a /* @a */ @a */, @b", "select 1 /* @a /* @a */ @a */, $1", "b"},
		{"select 5*/* @a */@b", "select 5*/* @a */$1", "b"},
		{"select 5---1\n@b", "select 5---1\n$1", "b"},
		{"select t @> @a, t <@ @a, t @@ @a, t @-@ @a, @ -5, @@ b", "select t @> $1, t <@ $1, t @@ $1, t @-@ $1, @ -5, @@ b", "a"},
		{"select @>x, @'5', @(5)", "select @>x, @'5', @(5)", ""},
		{"select j->'a'->>@k, j #>> @p, j ?| @q", "select j->'a'->>$1, j #>> $2, j ?| $3", "k p q"},
		{"select 1;", "select 1", ""},
		{"select @a ; -- done\n ;; /* x */", "select $1 ", "a"},
		{"/* first */ select 1", "/* first */ select 1", ""},
		{"select ';', @a", "select ';', $1", "a"},
		{"select a.b@c", "select a.b $1", "c"},
		{"select 5@c", "select 5 $1", "c"},
		{"select @_x1", "select $1", "_x1"},
	} {
		s, err := parseStatement(test.in)
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
			continue
		}
		if s.sql != test.sql || strings.Join(s.params, " ") != test.params {
			t.Errorf("%q:\n got %q %q\nwant %q %q", test.in, s.sql, s.params, test.sql, test.params)
		}
	}
}

func TestStatementMistakes(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "is empty"},
		{" ; ", "is empty"},
		{"-- x", "is empty"},
		{"select \xff", "not valid UTF-8"},
		{"select '\x00'", "not valid UTF-8"},
		{"select $1", "line 1, column 8: $1 is a positional parameter: write @name"},
		{"select\n  'é', $2", "line 2, column 8: $2"},
		{"select 1; select 2", "line 1, column 11: a second statement follows"},
		{"select 1;;'x'", "a second statement follows"},
		{"select 'a", "column 8: a quote ' opens here and does not close"},
		{`select E'a\'`, "a quote ' opens here"},
		{`select "a`, `a quote " opens here`},
		{"select $x$ a $y$", "the quote $x$ opens here and does not close"},
		{"select /* a /* b */", "a comment begins here and does not end"},
		{"select a <@b", `<@b may be read in two ways: write a space, as in "< @b" or "<@ b"`},
		{"select a @@b", `"@ @b" or "@@ b"`},
		{"select @-@b", `"@- @b" or "@-@ b"`},
		{"select @é", "@é is not a parameter's name"},
		{"select @a$", "@a$ is not a parameter's name"},
	} {
		_, err := parseStatement(test.in)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q", test.in, err, test.want)
		}
	}
}

// FuzzStatement builds queries of pieces whose meaning is known, with what the fuzzer likes inside quotes and comments.
func FuzzStatement(f *testing.F) {
	f.Add("select @a", []byte{0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add("'@x -- /* $y$ \"", []byte{8, 7, 6, 5, 4, 3, 2, 1, 0})
	f.Add("\\'", []byte{3, 0, 3, 0})
	f.Fuzz(func(t *testing.T, text string, order []byte) {
		// Whatever the text is: it is rewritten or refused, and what was rewritten has no parameter left.
		if s, err := parseStatement(text); err == nil {
			again, err := parseStatement(s.sql)
			if len(s.params) == 0 && (err != nil || again.sql != s.sql || len(again.params) > 0) {
				t.Fatalf("%q became %q, and that %v, %v", text, s.sql, again, err)
			}
			if len(s.params) > 0 && (err == nil || !strings.Contains(err.Error(), "is a positional parameter")) {
				t.Fatalf("%q became %q, which is read as %v, %v", text, s.sql, again, err)
			}
		}

		plain := strings.NewReplacer("\x00", "", "\n", " ", "\r", " ").Replace(strings.ToValidUTF8(text, "?"))
		pieces := []string{
			"@p",
			"'" + strings.ReplaceAll(plain, "'", "''") + "'",
			`"` + strings.ReplaceAll(plain, `"`, `""`) + `"`,
			"E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(plain) + "'",
			"$q$" + strings.ReplaceAll(plain, "$", "") + "$q$",
			"--" + plain + "\n",
			"/*" + strings.NewReplacer("*", "", "/", "").Replace(plain) + "/*@x*/ */",
			"x.y + 5 <@ @> @@",
			"e",
		}
		query, want := "select", "select"
		for _, i := range order {
			piece := pieces[int(i)%len(pieces)]
			query += " " + piece
			if piece == "@p" {
				piece = "$1"
			}
			want += " " + piece
		}
		s, err := parseStatement(query)
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		if s.sql != want {
			t.Fatalf("%q became %q, want %q", query, s.sql, want)
		}
	})
}
