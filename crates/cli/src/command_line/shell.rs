//! Writes the scripts by which shells complete a tool's commands and flags.
//!
//! Not here: which commands there are. The invariant: every name comes from the tree, so a script offers exactly what
//! the program takes; the four scripts walk the words before the cursor in the same way.

use super::flag::{Flag, Hint, Kind};
use super::tree::Command;

/// A shell that a script can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    /// PowerShell.
    Posh,
}

impl Shell {
    /// The shells by the names that `completion` takes.
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("bash", Self::Bash), ("zsh", Self::Zsh), ("fish", Self::Fish), ("powershell", Self::Posh)];
}

/// The script for a shell. `program` is the command path of the tree's root, such as `quorate ctl`; the words after
/// the first are commands of it.
pub(crate) fn script<Action>(shell: Shell, root: &'static Command<Action>, program: &'static str) -> String {
    let (command, prefix) = program.split_once(' ').unwrap_or((program, ""));
    let places = places(root, prefix);
    match shell {
        Shell::Bash => bash(command, &places, root.inherited),
        Shell::Zsh => zsh(command, &places, root.inherited),
        Shell::Fish => fish(command, &places, root.inherited),
        Shell::Posh => power_shell(command, &places, root.inherited),
    }
}

/// A command, by the words that lead to it.
struct Place {
    /// Those words, each behind a slash; empty for the program itself.
    path: String,
    /// Names and explanations of the commands that may follow.
    children: Vec<(&'static str, &'static str)>,
    /// The flags besides those that every command takes.
    flags: Vec<&'static Flag>,
    words: Hint,
}

fn places<Action>(root: &'static Command<Action>, prefix: &'static str) -> Vec<Place> {
    let mut places = Vec::new();
    let mut path = String::new();
    let plain =
        |path: &str, children| Place { path: path.to_owned(), children, flags: Vec::new(), words: Hint::Anything };
    for word in prefix.split_whitespace() {
        places.push(plain(&path, vec![(word, root.short)]));
        path = format!("{path}/{word}");
    }
    places.push(plain(&path, children(root)));
    root.children.iter().for_each(|child| add_places(&mut places, child, &path, &[]));
    places
}

fn add_places<Action>(
    places: &mut Vec<Place>,
    command: &'static Command<Action>,
    path: &str,
    handed_down: &[&'static Flag],
) {
    let path = format!("{path}/{}", command.name());
    let handed_down: Vec<&'static Flag> = handed_down.iter().copied().chain(command.inherited).collect();
    places.push(Place {
        path: path.clone(),
        children: children(command),
        flags: command.flags.iter().chain(handed_down.iter().copied()).collect(),
        words: command.words,
    });
    command.children.iter().for_each(|child| add_places(places, child, &path, &handed_down));
}

fn children<Action>(command: &'static Command<Action>) -> Vec<(&'static str, &'static str)> {
    command.children.iter().map(|child| (child.name(), child.short)).collect()
}

/// The name of a shell function of the command.
fn function(command: &str, suffix: &str) -> String {
    let name: String =
        command.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    format!("_{name}{suffix}")
}

/// The forms in which a flag is typed.
fn forms(flag: &Flag) -> Vec<String> {
    flag.shorthand.map(|letter| format!("-{letter}")).into_iter().chain([format!("--{}", flag.name)]).collect()
}

/// The paths of all commands but the program itself, for a `case`.
fn paths(places: &[Place], separator: &str) -> String {
    let paths: Vec<&str> = places.iter().map(|place| place.path.as_str()).filter(|path| !path.is_empty()).collect();
    paths.join(separator)
}

/// For every flag with a value, what may stand before the value (the place and the flag) and what may follow. The
/// flags of a place come before those of all places, whose patterns start with `*`.
fn values(places: &[Place], everywhere: &'static [Flag]) -> Vec<(Vec<String>, Hint)> {
    let takes_value = |flag: &&Flag| flag.kind != Kind::Bool;
    let of_places = places.iter().flat_map(|place| place.flags.iter().map(move |flag| (place.path.as_str(), *flag)));
    let everywhere = everywhere.iter().map(|flag| ("*", flag));
    of_places
        .chain(everywhere)
        .filter(|(_, flag)| takes_value(flag))
        .map(|(path, flag)| (forms(flag).iter().map(|form| pattern(path, form)).collect(), flag.hint))
        .collect()
}

/// A `case` pattern for a place and the word before the cursor.
fn pattern(path: &str, form: &str) -> String {
    if path == "*" { format!("*' {form}'") } else { format!("'{path} {form}'") }
}

fn bash(command: &str, places: &[Place], everywhere: &'static [Flag]) -> String {
    let name = function(command, "_complete");
    let mut script = format!(
        r#"# bash completion for {command}

{name}() {{
    local IFS=$' \t\n' place="" index words="" flags="" files=""
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
    # bash takes --flag=value apart at the sign.
    if [[ "$current" == "=" ]]; then
        current=""
    elif [[ "$previous" == "=" && $COMP_CWORD -ge 2 ]]; then
        previous="${{COMP_WORDS[COMP_CWORD - 2]}}"
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$place/${{COMP_WORDS[index]}}" in
            {paths}) place="$place/${{COMP_WORDS[index]}}" ;;
        esac
    done
    case "$place $previous" in
"#,
        paths = paths(places, " | ")
    );
    for (patterns, hint) in values(places, everywhere) {
        let offer = match hint {
            Hint::Anything => String::new(),
            Hint::File => "COMPREPLY=($(compgen -f -- \"$current\")); ".to_owned(),
            Hint::OneOf(words) => format!("COMPREPLY=($(compgen -W \"{}\" -- \"$current\")); ", words.join(" ")),
        };
        script.push_str(&format!("        {}) {offer}return ;;\n", patterns.join(" | ")));
    }
    script.push_str("    esac\n    case \"$place\" in\n");
    for place in places {
        let mut assigned = String::new();
        let words = offered_words(place);
        if !words.is_empty() {
            assigned.push_str(&format!(" words=\"{}\"", words.join(" ")));
        }
        if !place.flags.is_empty() {
            assigned.push_str(&format!(" flags=\"{}\"", typed(&place.flags)));
        }
        if place.words == Hint::File {
            assigned.push_str(" files=1");
        }
        if !assigned.is_empty() {
            script.push_str(&format!("        '{}'){assigned} ;;\n", place.path));
        }
    }
    let everywhere: Vec<&Flag> = everywhere.iter().collect();
    script.push_str(&format!(
        r#"    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$flags --help {everywhere}" -- "$current"))
    elif [[ -n "$files" ]]; then
        COMPREPLY=($(compgen -f -- "$current"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    fi
}}

complete -F {name} {command}
"#,
        everywhere = typed(&everywhere)
    ));
    script
}

/// The words that may follow at a place, besides flags.
fn offered_words(place: &Place) -> Vec<&'static str> {
    match place.words {
        Hint::OneOf(words) => words.to_vec(),
        _ => place.children.iter().map(|(name, _)| *name).collect(),
    }
}

/// Flags as they are typed, one after the other.
fn typed(flags: &[&Flag]) -> String {
    flags.iter().flat_map(|flag| forms(flag)).collect::<Vec<_>>().join(" ")
}

fn zsh(command: &str, places: &[Place], everywhere: &'static [Flag]) -> String {
    let name = function(command, "");
    let described = |word: &str, explanation: &str| {
        format!("{} ", quoted(&format!("{word}:{}", explanation.replace(':', "\\:")), "'\\''"))
    };
    let flags = |flags: &[&Flag]| -> String {
        flags.iter().flat_map(|flag| forms(flag).into_iter().map(|form| described(&form, flag.help))).collect()
    };
    let everywhere_flags: Vec<&Flag> = everywhere.iter().collect();
    let mut script = format!(
        r#"#compdef {command}
# zsh completion for {command}

{name}() {{
    local place="" index
    local -a commands flags
    for ((index = 2; index < CURRENT; index++)); do
        case "$place/${{words[index]}}" in
            {paths}) place="$place/${{words[index]}}" ;;
        esac
    done
    case "$place ${{words[CURRENT - 1]}}" in
"#,
        paths = paths(places, " | ")
    );
    for (patterns, hint) in values(places, everywhere) {
        let offer = match hint {
            Hint::Anything => String::new(),
            Hint::File => "_files; ".to_owned(),
            Hint::OneOf(words) => format!("compadd -- {}; ", words.join(" ")),
        };
        script.push_str(&format!("        {}) {offer}return ;;\n", patterns.join(" | ")));
    }
    script.push_str("    esac\n    case \"$place\" in\n");
    for place in places {
        script.push_str(&format!("        '{}')\n", place.path));
        let commands: String = match place.words {
            Hint::OneOf(words) => words.iter().map(|word| described(word, "")).collect(),
            _ => place.children.iter().map(|(name, short)| described(name, short)).collect(),
        };
        script.push_str(&format!("            commands=({})\n", commands.trim_end()));
        script.push_str(&format!("            flags=({})\n            ;;\n", flags(&place.flags).trim_end()));
    }
    script.push_str(&format!(
        r#"    esac
    if [[ "$PREFIX" == -* ]]; then
        flags+=({everywhere})
        _describe -o flag flags
    elif (( $#commands )); then
        _describe command commands
    else
        _files
    fi
}}

if [[ "${{funcstack[1]}}" == "{name}" ]]; then
    {name}
else
    compdef {name} {command}
fi
"#,
        everywhere = flags(&everywhere_flags).trim_end()
    ));
    script
}

fn fish(command: &str, places: &[Place], everywhere: &'static [Flag]) -> String {
    let (at, place_name) = (function(command, "_at"), function(command, "_place"));
    let mut script = format!(
        r#"# fish completion for {command}

function {place_name}
    set -l place ""
    for word in (commandline -opc)[2..-1]
        switch "$place/$word"
            case {paths}
                set place "$place/$word"
        end
    end
    echo "$place"
end

function {at}
    set -l place ({place_name})
    test "$place" = "$argv[1]"
end

complete -c {command} -f
"#,
        paths = paths(places, " ")
    );
    let flag_line = |condition: &str, flag: &Flag| {
        let shorthand = flag.shorthand.map(|letter| format!(" -s {letter}")).unwrap_or_default();
        let value = match (flag.kind, flag.hint) {
            (Kind::Bool, _) => String::new(),
            (_, Hint::Anything) => " -x".to_owned(),
            (_, Hint::File) => " -r -F".to_owned(),
            (_, Hint::OneOf(words)) => format!(" -x -a '{}'", words.join(" ")),
        };
        let explanation = quoted(&flag.help.replace('\\', "\\\\"), "\\'");
        format!("complete -c {command}{condition} -l {}{shorthand}{value} -d {explanation}\n", flag.name)
    };
    for place in places {
        let condition = format!(" -n '{at} \"{}\"'", place.path);
        for (name, short) in &place.children {
            let explanation = quoted(short, "\\'");
            script.push_str(&format!("complete -c {command}{condition} -a {name} -d {explanation}\n"));
        }
        match place.words {
            Hint::OneOf(words) => {
                script.push_str(&format!("complete -c {command}{condition} -a '{}'\n", words.join(" ")));
            }
            Hint::File => script.push_str(&format!("complete -c {command}{condition} -F\n")),
            Hint::Anything => {}
        }
        place.flags.iter().for_each(|flag| script.push_str(&flag_line(&condition, flag)));
    }
    everywhere.iter().for_each(|flag| script.push_str(&flag_line("", flag)));
    script
}

fn power_shell(command: &str, places: &[Place], everywhere: &'static [Flag]) -> String {
    let word = |word: &str, explanation: &str| {
        let explanation = if explanation.is_empty() { word } else { explanation };
        format!("@({}, {}), ", quoted(word, "''"), quoted(explanation, "''"))
    };
    let flag_words = |flags: &[&Flag]| -> String {
        flags.iter().flat_map(|flag| forms(flag).into_iter().map(|form| word(&form, flag.help))).collect()
    };
    let list = |words: String| format!("@({})", words.trim_end_matches(", "));
    let (mut commands, mut flags, mut values) = (String::new(), String::new(), String::new());
    for place in places {
        let key = quoted(&place.path, "''");
        let offered = match place.words {
            Hint::OneOf(words) => words.iter().map(|each| word(each, "")).collect(),
            _ => place.children.iter().map(|(name, short)| word(name, short)).collect::<String>(),
        };
        // A list of one pair would be taken apart without the comma in front.
        commands.push_str(&format!("        {key} = ,{}\n", list(offered)));
        flags.push_str(&format!("        {key} = ,{}\n", list(flag_words(&place.flags))));
    }
    let of_places = places.iter().flat_map(|place| place.flags.iter().map(move |flag| (place.path.as_str(), *flag)));
    for (path, flag) in of_places.chain(everywhere.iter().map(|flag| ("*", flag))).filter(|(_, f)| f.kind != Kind::Bool)
    {
        let offered = match flag.hint {
            Hint::OneOf(words) => words.iter().map(|each| word(each, "")).collect(),
            _ => String::new(),
        };
        for form in forms(flag) {
            let key = quoted(&format!("{path} {form}"), "''");
            values.push_str(&format!("        {key} = ,{}\n", list(offered.clone())));
        }
    }
    let everywhere: Vec<&Flag> = everywhere.iter().collect();
    format!(
        r#"# PowerShell completion for {command}

Register-ArgumentCompleter -Native -CommandName {name} -ScriptBlock {{
    param($wordToComplete, $commandAst, $cursorPosition)
    $commands = @{{
{commands}    }}
    $flags = @{{
{flags}    }}
    $values = @{{
{values}    }}
    $everywhere = {everywhere}
    $place = ''
    $previous = ''
    foreach ($element in $commandAst.CommandElements | Select-Object -Skip 1) {{
        if ($element.Extent.EndOffset -ge $cursorPosition) {{ break }}
        $previous = $element.ToString()
        if ($commands.ContainsKey("$place/$previous")) {{ $place = "$place/$previous" }}
    }}
    $offered = if ($values.ContainsKey("$place $previous")) {{ $values["$place $previous"][0] }}
        elseif ($values.ContainsKey("* $previous")) {{ $values["* $previous"][0] }}
        elseif ($wordToComplete.StartsWith('-')) {{ $flags[$place][0] + $everywhere }}
        else {{ $commands[$place][0] }}
    $offered | Where-Object {{ $_ -and $_[0] -like "$wordToComplete*" }} | ForEach-Object {{
        [System.Management.Automation.CompletionResult]::new($_[0], $_[0], 'ParameterValue', $_[1])
    }}
}}
"#,
        name = quoted(command, "''"),
        everywhere = list(flag_words(&everywhere)),
    )
}

/// A text in single quotes, in which a single quote is written as `quote`.
fn quoted(text: &str, quote: &str) -> String {
    format!("'{}'", text.replace('\'', quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROOT: Command<()> = Command {
        inherited: &[
            Flag::new("write-out", Kind::Text, "").short('w').offering(Hint::OneOf(&["json", "simple"])),
            Flag::new("cacert", Kind::Text, "the server's authority").offering(Hint::File),
        ],
        ..Command::parent(
            "tool",
            "",
            &[
                Command {
                    flags: &[Flag::new("prefix", Kind::Bool, ""), Flag::new("limit", Kind::Int, "")],
                    ..Command::leaf("get KEY", "Gets: a key", ())
                },
                Command {
                    inherited: &[Flag::new("cluster", Kind::Bool, "")],
                    ..Command::parent("endpoint", "", &[Command::leaf("health", "", ())])
                },
                Command { words: Hint::File, ..Command::leaf("save FILE", "", ()) },
            ],
        )
    };

    /// What bash offers for the words, the last of which is being typed.
    fn offered(program: &'static str, words: &[&str]) -> Vec<String> {
        let script = script(Shell::Bash, &ROOT, program);
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let command = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            function(program.split(' ').next().unwrap_or_default(), "_complete")
        );
        let output = std::process::Command::new("bash").args(["-uc", &command]).output().expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_what_the_tree_holds() {
        let check = |words: &[&str], expected: &[&str]| assert_eq!(offered("tool", words), expected, "{words:?}");
        check(&["tool", ""], &["get", "endpoint", "save"]);
        check(&["tool", "e"], &["endpoint"]);
        check(&["tool", "-w", "json", "endpoint", ""], &["health"]);
        check(&["tool", "endpoint", "health", "--c"], &["--cluster", "--cacert"]);
        check(&["tool", "get", "--"], &["--prefix", "--limit", "--help", "--write-out", "--cacert"]);
        check(&["tool", "get", "-w", ""], &["json", "simple"]);
        check(&["tool", "get", "--write-out", "=", "j"], &["json"]);
        check(&["tool", "get", "--limit", ""], &[]);
        check(&["tool", "get", ""], &[]);
        check(&["tool", "save", "/etc/hostn"], &["/etc/hostname"]);
        check(&["tool", "--cacert", "/etc/hostn"], &["/etc/hostname"]);
    }

    #[test]
    fn a_tool_within_a_program_starts_behind_its_word() {
        assert_eq!(offered("main tool", &["main", ""]), ["tool"]);
        assert_eq!(offered("main tool", &["main", "tool", "e"]), ["endpoint"]);
        assert_eq!(offered("main tool", &["main", "tool", "endpoint", ""]), ["health"]);
    }

    #[test]
    fn explanations_cannot_break_out_of_their_quotes() {
        assert!(script(Shell::Zsh, &ROOT, "tool").contains(r"'get:Gets\: a key'"));
        assert!(script(Shell::Zsh, &ROOT, "tool").contains(r"'--cacert:the server'\''s authority'"));
        assert!(script(Shell::Fish, &ROOT, "tool").contains(r"-l cacert -r -F -d 'the server\'s authority'"));
        assert!(script(Shell::Posh, &ROOT, "tool").contains("@('--cacert', 'the server''s authority')"));
    }
}
