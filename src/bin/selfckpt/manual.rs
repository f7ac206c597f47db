//! [NORMAL] Manual pages and the completion of the shell, made from the words of the help.

use crate::VERBS;
use crate::verb::Verb;
use std::fmt::Write as _;

/// Text as troff takes it for text.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn head(title: &str, name: &str, summary: &str) -> String {
    format!(
        ".TH {} 1 \"\" \"selfckpt {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
        escape(&title.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escape(name),
        escape(summary)
    )
}

fn paragraphs(out: &mut String, paragraphs: &[&str]) {
    for paragraph in paragraphs {
        // What is indented stays as it is.
        let _ = match paragraph.strip_prefix(' ') {
            Some(_) => writeln!(out, ".PP\n.nf\n{}\n.fi", escape(paragraph)),
            None => writeln!(out, ".PP\n{}", escape(paragraph)),
        };
    }
}

/// The page of a command.
pub fn page(verb: &Verb) -> String {
    let name = format!("selfckpt-{}", verb.name);
    let mut out = head(&name, &name, verb.summary);
    let _ = writeln!(out, ".SH SYNOPSIS\n.B selfckpt {}\n{}", verb.name, escape(verb.synopsis));
    out.push_str(".SH DESCRIPTION\n");
    paragraphs(&mut out, verb.description);
    out.push_str(".SH OPTIONS\n");
    for opt in verb.all_options() {
        let short = opt.short.map_or_else(String::new, |c| format!("\\fB\\-{c}\\fR, "));
        let value = opt.value.map_or_else(String::new, |value| format!(" \\fI{}\\fR", escape(value)));
        let _ = writeln!(out, ".TP\n{short}\\fB\\-\\-{}\\fR{value}\n{}", escape(opt.long), escape(opt.help));
    }
    if !verb.exit_status.is_empty() {
        out.push_str(".SH EXIT STATUS\n");
        for line in verb.exit_status {
            let _ = match line.split_once("  ") {
                Some((number, rest)) => writeln!(out, ".TP\n.B {}\n{}", escape(number), escape(rest.trim())),
                None => writeln!(out, ".PP\n{}", escape(line)),
            };
        }
    }
    if !verb.examples.is_empty() {
        out.push_str(".SH EXAMPLES\n");
        for line in verb.examples {
            let _ = writeln!(out, ".PP\n.nf\n{}\n.fi", escape(line));
        }
    }
    out.push_str(".SH SEE ALSO\n.BR selfckpt (1)\n");
    out
}

/// The page of the whole.
pub fn overview() -> String {
    let mut out = head("selfckpt", "selfckpt", "checkpoint and restart of unmodified 32-bit x86 Linux programs");
    out.push_str(".SH SYNOPSIS\n");
    for verb in VERBS {
        let _ = writeln!(out, ".B selfckpt {}\n{}\n.br", verb.name, escape(verb.synopsis));
    }
    out.push_str(".SH DESCRIPTION\n.nf\n");
    for line in crate::overview().lines() {
        let _ = writeln!(out, "{}", escape(line));
    }
    out.push_str(".fi\n.SH SEE ALSO\n");
    for verb in VERBS {
        let _ = writeln!(out, ".BR selfckpt\\-{} (1)", verb.name);
    }
    out
}

/// A function for bash: commands, options, and file names for the rest.
pub fn bash_completion() -> String {
    let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let mut cases = String::new();
    for verb in VERBS {
        let options: Vec<String> = verb.all_options().map(|opt| format!("--{}", opt.long)).collect();
        let _ = writeln!(cases, "        {}) options=\"{}\" ;;", verb.name, options.join(" "));
    }
    format!(
        "# bash completion for selfckpt
_selfckpt() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} options=
    COMPREPLY=()
    if [ \"$COMP_CWORD\" = 1 ]; then
        COMPREPLY=($(compgen -W '{} help --help --version' -- \"$word\"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
        help) COMPREPLY=($(compgen -W '{}' -- \"$word\")); return ;;
{cases}    esac
    case $word in
        -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;
        *) compopt -o default 2>/dev/null ;;
    esac
}}
complete -F _selfckpt selfckpt
",
        names.join(" "),
        names.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_every_option() {
        for verb in VERBS {
            let page = page(verb);
            for opt in verb.all_options() {
                assert!(page.contains(&format!("\\-\\-{}\\fR", escape(opt.long))), "{} --{}", verb.name, opt.long);
                assert!(page.contains(&escape(opt.help)), "{} --{}", verb.name, opt.long);
            }
            assert!(overview().contains(&format!("selfckpt\\-{} (1)", verb.name)));
        }
    }

    #[test]
    fn text_is_no_request() {
        assert_eq!(escape(".x -y"), "\\&.x \\-y");
        assert_eq!(escape("a\\b"), "a\\eb");
    }
}
