// Stands in for three packages of gitleaks (config, utils, secrets), so that its rule sources hand out the cases
// that they are tested with: one JSON object a line, {"rule", "text", "value", "secret"}. It compiles with the
// standard library alone; gitleaks itself is not run.
package stub

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"regexp/syntax"
	"strings"
)

type AllowlistMatchCondition int

const (
	AllowlistMatchOr AllowlistMatchCondition = iota
	AllowlistMatchAnd
)

type Allowlist struct {
	Description    string
	MatchCondition AllowlistMatchCondition
	Commits        []string
	Paths          []*regexp.Regexp
	RegexTarget    string
	Regexes        []*regexp.Regexp
	StopWords      []string
}

func (a *Allowlist) ContainsStopWord(text string) (bool, string) {
	for _, word := range a.StopWords {
		if strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			return true, word
		}
	}
	return false, ""
}

type Required struct {
	RuleID                     string
	WithinLines, WithinColumns *int
}

type Rule struct {
	RuleID, Description string
	Entropy             float64
	SecretGroup         int
	Regex, Path         *regexp.Regexp
	Tags, Keywords      []string
	Allowlists          []*Allowlist
	RequiredRules       []*Required
	SkipReport          bool
}

var random = rand.New(rand.NewSource(20260101))

// NewSecret makes one string that the expression matches, with repeats of up to 8 more where there is no bound.
func NewSecret(expression string) string {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		panic(err)
	}
	var out strings.Builder
	generate(parsed.Simplify(), &out)
	return out.String()
}

func generate(re *syntax.Regexp, out *strings.Builder) {
	times := func(low, high int) {
		for i := low + random.Intn(high-low+1); i > 0; i-- {
			generate(re.Sub[0], out)
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		out.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		total := 0
		for i := 0; i < len(re.Rune); i += 2 {
			total += int(min(re.Rune[i+1], 126)-re.Rune[i]) + 1
		}
		pick := random.Intn(total)
		for i := 0; i < len(re.Rune); i += 2 {
			size := int(min(re.Rune[i+1], 126)-re.Rune[i]) + 1
			if pick < size {
				out.WriteRune(re.Rune[i] + rune(pick))
				return
			}
			pick -= size
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		out.WriteByte(byte(33 + random.Intn(94)))
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			generate(sub, out)
		}
	case syntax.OpAlternate:
		generate(re.Sub[random.Intn(len(re.Sub))], out)
	case syntax.OpStar:
		times(0, 8)
	case syntax.OpPlus:
		times(1, 9)
	case syntax.OpQuest:
		times(0, 1)
	case syntax.OpRepeat:
		high := re.Max
		if high < 0 {
			high = re.Min + 8
		}
		times(re.Min, high)
	}
}

func min(a, b rune) rune {
	if a < b {
		return a
	}
	return b
}

func emit(rule *Rule, text string, secret bool) {
	value := ""
	if secret && rule.Regex != nil {
		found := rule.Regex.FindStringSubmatch(text)
		for i, group := range found {
			if value == "" || (rule.SecretGroup == 0 && i == 1 && group != "") || (rule.SecretGroup > 0 && i == rule.SecretGroup) {
				value = group
			}
		}
	}
	line, err := json.Marshal(map[string]any{"rule": rule.RuleID, "text": text, "value": value, "secret": secret})
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, string(line))
}

func Validate(rule Rule, positives []string, negatives []string) *Rule {
	for _, text := range positives {
		emit(&rule, text, true)
	}
	for _, text := range negatives {
		emit(&rule, text, false)
	}
	return &rule
}

func ValidateWithPaths(rule Rule, positives map[string]string, negatives map[string]string) *Rule {
	for _, text := range positives {
		emit(&rule, text, true)
	}
	for _, text := range negatives {
		emit(&rule, text, false)
	}
	return &rule
}
