#!/bin/sh
# man.sh DEPLOY DIR: writes all man pages below DIR/man1, man5 and man8: those of the program DEPLOY
# as it says them itself, the others of our documents, so that nothing is written twice.
set -eu

[ $# = 2 ] || { echo "usage: man.sh DEPLOY DIR" >&2; exit 2; }
deploy=$1
dir=$2
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

mkdir -p "$dir/man1" "$dir/man5" "$dir/man8"
"$deploy" man --dir "$dir/man1"

# page FILE NAME SECTION WORDS: the page NAME(SECTION) of a Markdown file; WORDS are for whatis(1).
page() {
    # Without an empty line before it, lowdown takes a block of code for words.
    awk '/^```/ { if (!code && before != "") print ""; code = !code } { print; before = $0 }' "$1" |
        lowdown -s -t man -M title="$2" -M section="$3" -M source="deploy-secrets $version" \
            -M volume="deploy-secrets" |
        # Without a name no index finds it. Its words are adjusted to no margin, for in the narrow
        # columns of a table that cannot be done; and long JSON may be broken between two keys.
        sed -e "0,/^\.TH.*/s//&\n.ad l\n.nh\n.SH NAME\n$2 \\\\- $4\n/" \
            -e '/^\.EX/,/^\.EE/!s/,\\(dq/,\\:\\(dq/g' >"$dir/man$3/$2.$3"
}
page "$root/docs/manifest.md" deploy-manifest 5 "what a service asks for, and how it is started"
page "$root/docs/semantics.md" deploy-views 5 "what a file of a service's view promises"
page "$root/docs/format.md" deploy-store 5 "what lies in the folder of a store, byte by byte"
page "$root/docs/audit.md" deploy-audit-log 5 "what is written down of whom, and what it can show"
page "$root/packaging/man/deploy-inject.8.md" deploy-inject 8 "attaches views of secrets to services"
page "$root/packaging/man/secretsd.8.md" secretsd 8 "keeps secrets and shows services their own as files"
