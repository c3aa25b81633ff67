//! Completions, as the real shells give them: each is asked what it would offer after a line that is half typed.

use crate::support::*;
use std::path::Path;
use std::process::{Command, Stdio};

/// Sets the words up as readline does and calls the function that the script registered.
const BASH: &str = r#"
source completions/mmapctl.bash
spec=$(complete -p mmapctl)
spec=${spec#*-F }
COMP_LINE=$LINE
COMP_POINT=${#LINE}
read -ra COMP_WORDS <<<"$LINE"
[[ $LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"${spec%% *}" mmapctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = r#"
source completions/mmapctl.fish
complete -C "$LINE"
"#;

/// zsh completes in its line editor alone, so a second zsh runs on a pseudo-terminal. There compadd, which every
/// offer goes through, writes down what it would have added; the line typed and a tab do the rest.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty inner zsh -f -i
say() { zpty -w inner "$1" }
say 'PROMPT= RPROMPT=; unsetopt beep; fpath=($PWD/completions $fpath); autoload -Uz compinit; compinit -u -D'
say 'compadd() { local -a offered; builtin compadd -O offered "$@"; print -rl -- "$offered[@]" >>$OFFERS; builtin compadd "$@" }'
say 'finish() { zle complete-word; print -r done >>$OFFERS; zle .kill-whole-line }; zle -N finish; bindkey "^T" finish'
say 'print -r ready >>$OFFERS'
wait_for() {
    local -i tries=0
    until grep -qx -- $1 $OFFERS; do
        (( ++tries > 9000 )) && { zpty -d inner; print -u2 "no '$1' from the inner zsh"; exit 1 }
        zpty -r -t inner drained; sleep 0.02
    done
}
wait_for ready
zpty -w -n inner "$LINE"$'\x14'
wait_for done
zpty -d inner
grep -vx -e ready -e done -- $OFFERS || true
"#;

/// What `shell` offers after `line`, without descriptions.
fn offers(shell: &str, line: &str) -> Vec<String> {
    let notes = tempfile::NamedTempFile::new().expect("a file for notes");
    let (program, args, script) = match shell {
        "bash" => ("bash", ["--norc", "-c"], BASH),
        "fish" => ("fish", ["--no-config", "-c"], FISH),
        _ => ("zsh", ["-f", "-c"], ZSH),
    };
    let home = tempfile::tempdir().expect("a home");
    let output = Command::new(program)
        .args(args)
        .arg(script)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("LINE", line)
        .env("OFFERS", notes.path())
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .env("TERM", "xterm")
        .env("PATH", path_with_the_binary())
        .stdin(Stdio::null())
        .outcome();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shell}, {line}: {said}");
    // fish puts a description after a tab.
    let words = text.lines().filter_map(|line| line.split('\t').next());
    words.map(|word| word.trim_end().to_string()).collect()
}

fn path_with_the_binary() -> std::ffi::OsString {
    let build = Path::new(BINARY).parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(build.into_iter().chain(std::env::split_paths(&path))).expect("a PATH")
}

#[track_caller]
fn offered(shell: &str, line: &str, wanted: &[&str], not: &[&str]) {
    let offers = offers(shell, line);
    for word in wanted {
        assert!(offers.iter().any(|offer| offer == word), "{shell}: no {word} behind '{line}', but {offers:?}");
    }
    for word in not {
        assert!(!offers.iter().any(|offer| offer == word), "{shell}: {word} behind '{line}' in {offers:?}");
    }
}

/// A verb, all verbs, options of one verb and of all, and the values of options, in one shell.
fn completes(shell: &str) {
    offered(shell, "mmapctl ca", &["cat"], &["map", "--json"]);
    offered(shell, "mmapctl ", &["map", "cat", "patch", "sync", "zero", "remap"], &[]);
    offered(shell, "mmapctl patch --", &["--expect", "--dry-run", "--lock-timeout", "--json"], &["--punch"]);
    offered(shell, "mmapctl zero --met", &["--method"], &["--json"]);
    offered(shell, "mmapctl cat --format ", &["raw", "hex", "canonical", "xxd", "plain"], &["auto"]);
    offered(shell, "mmapctl zero --method p", &["punch"], &["write"]);
    offered(shell, "mmapctl map --advise will", &["willneed"], &["random"]);
    offered(shell, "mmapctl --color ", &["auto", "always", "never"], &["map"]);
}

#[test]
fn bash_completes_verbs_options_and_values() {
    if has("bash") {
        completes("bash");
    }
}

#[test]
fn fish_completes_verbs_options_and_values() {
    if has("fish") {
        completes("fish");
    }
}

#[test]
fn zsh_completes_verbs_options_and_values() {
    if has("zsh") {
        completes("zsh");
    }
}
