#!/usr/bin/env bash
# Every claim of speed, against its peer, on the same files: mmapctl, the peer and the physical limit take turns, and
# medians are compared with the bar that the project has set itself. Installs nothing; what is not here is skipped, and
# said. Everything happens in a folder of its own, which goes away at the end, also by Ctrl-C.
set -uo pipefail
export LC_ALL=C # EPOCHREALTIME has a point, and peers speak English

usage() {
    cat <<'END'
Usage: benches/peers.sh [OPTIONS] [MMAPCTL] [PATTERN]

MMAPCTL is the binary to measure; without it, the release build of this repository.
PATTERN is a regular expression; only lines whose text it matches are measured.

  -n RUNS      alternating runs of each (7; some that take long have 3 at the most)
  --pinned     everything on processor 0; no line may be slower than its peer
  --busy       beside a busy process for each processor; no line may be slower than its peer
  --quick      an eighth of each size, 3 runs: to see that it works; its figures prove nothing
  --in FOLDER  make the files there: /dev/shm measures a tmpfs (the current folder; full size takes 13 GiB)
  --markdown   the table as benches/README.md has it
  --list       the lines, without measuring

A bar is met by "yes", or "even": slower by less than the peer's own runs differ (their upper quartile). Exits with 1 if
one is not met. Peak memory is the largest resident set of mmapctl, pages of a mapped file counted. "cold": nothing of the
files is in memory. Root drops the page cache for that; for others, dd drops the files.
END
}

runs=7 scale=8 folder=$PWD markdown='' list='' pattern='' binary='' slow=''
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        -n) runs=${2:?-n takes a number} && shift ;;
        --quick) scale=1 runs=3 ;;
        --pinned) slow='on processor 0 alone' ;;
        --busy) slow="beside $(nproc) busy processes" ;;
        --in) folder=${2:?--in takes a folder} && shift ;;
        --markdown) markdown=1 ;;
        --list) list=1 ;;
        -h | --help) usage && exit ;;
        -*) usage >&2 && exit 2 ;;
        *) if [ -f "$1" ] && [ -x "$1" ]; then binary=$(realpath "$1"); else pattern=$1; fi ;;
    esac
    shift
done

if [ "$slow" = 'on processor 0 alone' ] && [ -z "${PINNED:-}" ]; then
    PINNED=1 exec taskset -c 0 bash "$0" "${arguments[@]}"
fi

has() { command -v "${1%%[ :]*}" >/dev/null; } # has WORDS: whether the program that they begin with is there

root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "$binary" ]; then
    target=${CARGO_TARGET_DIR:-$root/target}
    for binary in "$target"/release/mmapctl "$target"/*/release/mmapctl; do [ -x "$binary" ] && break; done
fi
[ -x "$binary" ] || { echo "no release build: 'cargo build --release --locked', or name a binary" >&2 && exit 2; }
scratch=$(mktemp -d "$folder/mmapctl-peers.XXXXXX") || exit 2
home=$(mktemp -d "$PWD/mmapctl-peers.XXXXXX" 2>/dev/null) || home=$scratch
readonly scratch home
busy=()
clean() { [ ${#busy[@]} = 0 ] || kill "${busy[@]}"; rm -rf "$scratch" "$home"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
cd "$scratch" || exit 2

# A copy, as 'cargo install' leaves one: what the linker has just written lies in the page cache page by page, and each
# start then takes a tenth of a millisecond longer, until the machine has forgotten it. So it does on a tmpfs (--in).
cp "$binary" "$home/mmapctl" && binary=$home/mmapctl || exit 2
M=$binary # as the lines below write it

# ---- sizes and files; each is made when the first line needs it ----

MIB=$((1 << 20))
big=$((128 * scale * MIB)) small=$((8 * scale * MIB)) huge=$((512 * scale * MIB))
edits=$((125000 * scale)) files=$((12500 * scale))

need() { # need NAME: makes the file NAME, if it is not there
    [ -e "$1" ] && return
    case $1 in
        # Files of this length come by large writes, or are read ahead: the page cache then has them in large folios.
        big) dd if=/dev/urandom of=big bs=1M count=$((big / MIB)) status=none ;;
        crumbs) need big && dd if=big of=crumbs bs=8K status=none ;;
        other) need big && cp --reflink=never big other ;;
        small) head -c "$small" /dev/urandom >small ;;
        zeros) head -c "$small" /dev/zero >zeros ;;
        dump) need small && "$binary" cat small -f canonical >dump ;;
        half) # every second mebibyte is zeros, with blocks
            need big
            for ((at = 0; at < huge; at += 2 * MIB)); do
                dd if=big bs=1M skip=$((at / 2 / MIB % (big / MIB))) count=1 status=none && head -c 1M /dev/zero
            done >half ;;
        tera) truncate -s 1T tera && printf 'the last bytes..' | dd of=tera bs=16 seek=$(((1 << 36) - 1)) conv=notrunc status=none ;;
        hole) truncate -s 1T hole ;;
        four) printf '\xde\xad\xbe\xef' >four ;;
        page) head -c 8K /dev/zero >page ;;
        many) new_files many "$files" ;;
        crowd) new_files crowd $((10 * files)) ;;
        changed) # a byte in each KiB
            cp --reflink=never big changed && perl -e 'open(F, "+<", "changed") or die;
                for ($at = 500; $at < -s F; $at += 1024) { seek(F, $at, 0); read(F, $c, 1); seek(F, $at, 0); print F chr(255 - ord $c) }' ;;
        sixty) # 64 GiB of which one percent is data
            truncate -s $((8 * scale))G sixty && for ((i = 0; i < 80 * scale; i++)); do
                dd if=big of=sixty bs=1M skip=$((i % (big / MIB))) seek=$((i * 100)) count=1 conv=notrunc status=none
            done ;;
        sparse) truncate -s $((10 * edits * 64)) sparse ;;
        edits10.mmp)
            awk -v n="$((10 * edits))" 'BEGIN { print "# mmapctl-patch 1"
                for (i = 0; i < n; i++) printf "0x%x: 00000000 -> %08x\n", i * 64, i + 1 }' >edits10.mmp ;;
        edits.mmp) # the same edits for both, in ascending order
            awk -v n="$edits" 'BEGIN { print "# mmapctl-patch 1"
                for (i = 0; i < n; i++) printf "0x%x: 00000000 -> %08x\n", i * 64, i + 1 }' >edits.mmp ;;
        edits.xxd)
            awk -v n="$edits" 'BEGIN { for (i = 0; i < n; i++) printf "%08x: %08x\n", i * 64, i + 1 }' >edits.xxd ;;
    esac
    # What is made is on its disk, so that writing it back disturbs nobody.
    [ -d "$1" ] || sync "$1"
}

new_files() { # new_files FOLDER COUNT
    mkdir "$1" && perl -e '($d, $n) = @ARGV; for (1 .. $n) { open(F, ">", "$d/$_") or die; print F "$_\n"; close F }' "$1" "$2"
}

cold() { # nothing of the files is in memory
    sync
    if [ -w /proc/sys/vm/drop_caches ]; then
        echo 1 >/proc/sys/vm/drop_caches
    else
        local name
        for name in ${files_needed:-} work; do [ ! -f "$name" ] || dd of="$name" oflag=nocache conv=notrunc,fdatasync count=0 status=none; done
    fi
}

# Moves stdin to a pipe without copying it: splice(2), for which perl has no name. F_SETPIPE_SZ is 1031.
case $(uname -m) in x86_64) splice=275 ;; aarch64) splice=76 ;; *) splice='' ;; esac
splice="fcntl(STDOUT, 1031, 1 << 20); 1 while (\$n = syscall(${splice:-die}, 0, 0, 1, 0, 1 << 20, 0)) > 0; exit(\$n != 0)"

# ---- measuring ----

took() { # took COMMAND: its microseconds; fails as it does
    local begin=$EPOCHREALTIME status
    eval "$1" </dev/null >/dev/null 2>error
    status=$?
    local end=$EPOCHREALTIME
    us=$((${end/./} - ${begin/./}))
    return $status
}

median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }

quartile() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print v[int((3 * NR + 1) / 4)] }'; } # the upper one

human() { awk -v us="$1" 'BEGIN { if (us < 9950) printf "%.2f ms", us / 1000; else if (us < 995000) printf "%.0f ms", us / 1000; else printf "%.2f s", us / 1e6 }'; }

row() { # row WORK OURS PEER RATIO BAR MET LIMIT MEMORY
    if [ -n "$markdown" ]; then
        printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$@"
    else
        printf '%-46s %9s  %-26s %8s  %-14s %-4s %-30s %s\n' "$@"
    fi
}

unmet=0 even=0 measured=0
skip() { if [ -n "$markdown" ]; then echo "SKIPPED $1: $2" >&2; else echo "SKIPPED $1: $2"; fi; }

# line WORK BAR OURS PEER COMMAND [LIMIT COMMAND]
#   BAR is N times faster (xN), at most N times the peer's time (N), or less than N milliseconds (msN, without a peer).
#   PEER and LIMIT begin with the program that must be there. In the environment of the call: files (what it needs),
#   before (done before every run, not timed), most (runs).
line() {
    local work=$1 bar=$2 ours=$3 peer=${4:-} theirs=${5:-} limit=${6:-} floor=${7:-}
    [[ -z $pattern || $work =~ $pattern ]] || return 0
    if [ -n "$list" ]; then echo "$work" && return; fi
    if [ -n "$peer" ] && ! has "$peer"; then skip "$work" "${peer%%[ :]*} is not installed" && return; fi
    [ -n "$limit" ] && ! has "$limit" && limit=''
    local name
    for name in ${files_needed:-}; do need "$name" || { skip "$work" "cannot make $name" && return; }; done
    local count=$runs a=() b=() c=() i
    [ "${most:-$runs}" -lt "$count" ] && count=$most
    for ((i = 0; i <= count; i++)); do # the first round warms up
        eval "${before:-}"
        took "$ours" || { skip "$work" "mmapctl: $(head -n 1 error)" && return; }
        [ $i -gt 0 ] && a+=("$us")
        if [ -n "$peer" ]; then
            eval "${before:-}"
            took "$theirs" || { skip "$work" "${peer%% *}: $(head -n 1 error)" && return; }
            [ $i -gt 0 ] && b+=("$us")
        fi
        if [ -n "$limit" ]; then
            took "$floor" || limit=''
            [ $i -gt 0 ] && c+=("$us")
        fi
    done
    local memory='' ratio='' met our their='' bound=''
    if [ -x /usr/bin/time ]; then
        eval "${before:-}"
        rm -f memory
        M="/usr/bin/time -a -o memory -f %M $binary"
        took "$ours"
        M=$binary
        memory=$(sort -n memory 2>/dev/null | tail -n 1 | awk '{ printf "%.1f MiB", $1 / 1024 }')
    fi
    [ -z "$slow" ] || [ -z "$peer" ] || bar=1.0
    our=$(median "${a[@]}")
    [ -n "$peer" ] && their=$(median "${b[@]}")
    case $bar in
        ms*) met=$(awk -v o="$our" -v n="${bar#ms}" 'BEGIN { print (o < n * 1000 ? "yes" : "NO") }') && bound="under ${bar#ms} ms" ;;
        x*) met=$(awk -v o="$our" -v t="$their" -v n="${bar#x}" 'BEGIN { print (t / o >= n ? "yes" : "NO") }') && bound="${bar#x} x faster" ;;
        *)
            met=$(awk -v o="$our" -v t="$their" -v q="$(quartile "${b[@]}")" -v n="$bar" \
                'BEGIN { print (o <= n * t ? "yes" : o <= n * q ? "even" : "NO") }')
            bound="at most ${bar} x"
            ;;
    esac
    if [ -n "$peer" ]; then
        case $bar in
            x*) ratio=$(awk -v o="$our" -v t="$their" 'BEGIN { printf "%.1f x", t / o }') ;;
            *) ratio=$(awk -v o="$our" -v t="$their" 'BEGIN { printf "%.2f", o / t }') ;;
        esac
        peer="$peer: $(human "$their")"
    fi
    [ -n "$limit" ] && limit="$limit: $(human "$(median "${c[@]}")")"
    measured=$((measured + 1))
    [ "$met" = NO ] && unmet=$((unmet + 1))
    [ "$met" = even ] && even=$((even + 1))
    row "$work" "$(human "$our")" "$peer" "$ratio" "$bound" "$met" "$limit" "$memory"
}

# ---- the machine ----

# Whether this processor copies to the beginning of a page faster than to 16 bytes past it: perl's buffers begin there.
alignment() {
    has perl || { echo 'alignment of copies not measured' && return; }
    need small
    local past begins
    past=$(copies 0) begins=$(copies 4080)
    awk -v a="$past" -v b="$begins" 'BEGIN { printf "copies to the beginning of a page take %.2f of those past it", b / a }'
}

copies() { # copies OFFSET: the seconds of 40 rounds of reading 64 MiB by 256 KiB to that offset of a buffer
    perl -MTime::HiRes=time -e 'open(F, "<", "small"); $b = "\0" x (1 << 19); $t = time;
        for (1 .. 40) { seek(F, 0, 0); 1 while sysread(F, $b, 1 << 18, $ARGV[0]) } print time - $t' "$1"
}

machine() {
    local cpu memory kernel
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
    kernel=$(uname -sr)
    echo "$(date -u +%Y-%m-%d), $kernel, $(nproc) cores (${cpu:-$(uname -m)}), $memory, $(df --output=fstype . | tail -n 1), $("$binary" --version);"
    echo "processor family $(sed -n 's/^cpu family[^:]*: //p' /proc/cpuinfo | head -n 1)${slow:+, $slow}; $(alignment);"
    echo "medians of $runs runs that take turns$([ $scale = 8 ] || echo ', --quick: an eighth of each size, which proves nothing')."
}

if [ -z "$list" ]; then
    machine
    case $slow in beside*) for ((i = $(nproc); i > 0; i--)); do yes >/dev/null & busy+=($!); done ;; esac
    free=$(df --output=avail -B 1 . | tail -n 1)
    [ "$free" -gt $((3 * huge + 3 * big)) ] || echo "only $((free / MIB)) MiB are free here; lines that need more are skipped" >&2
    if [ -n "$markdown" ]; then
        echo
        row work mmapctl peer ratio bar met limit 'peak memory'
        row --- ---: --- ---: --- --- --- ---:
    else
        row WORK MMAPCTL PEER RATIO BAR MET LIMIT 'PEAK MEMORY'
    fi
fi

# ---- the lines ----

s=$((small / MIB))M g=$((big / MIB))M h=$((huge / MIB))M # as the lines name the sizes
empty=$(type -P true) # the program, not what bash has of that name
hundred() { local i; for ((i = 0; i < 100; i++)); do eval "$1"; done; } # what is over in a millisecond

# Start-up.
files_needed='four page' line '100 patches of 4 bytes, a process each' 1.1 \
    'hundred "$M patch -q page -o 4096 @four"' \
    dd 'hundred "dd if=four of=page bs=1 seek=4096 conv=notrunc status=none"' \
    'true: an empty process' 'hundred "$empty"'

# Cold.
read_once='dd if=big of=/dev/null bs=1M status=none' read_both="dd if=big of=/dev/null bs=1M status=none; dd if=other of=/dev/null bs=1M status=none"
direct='dd: direct' directly='dd if=big of=/dev/null bs=4M iflag=direct status=none'
needle=never-there-0123 absent='! $M patch big --find text:$needle 00 --dry-run'
files_needed=big before=cold line "map --populate, $g cold" 1.0 '$M map big --populate' 'vmtouch -t' 'vmtouch -t big' "$direct" "$directly"
files_needed=big before=cold line "the same, against reading" 1.15 '$M map big --populate' dd "$read_once"
files_needed='big other' before=cold line "patch --diff of two equal $g files, cold" 1.0 '$M patch big --diff other' cmp 'cmp big other'
files_needed='big other' before=cold line "the same, against reading both" 1.25 '$M patch big --diff other' dd "$read_both"
files_needed=big before=cold line "patch --find of what is not there, $g cold" 1.0 "$absent" 'grep -F' '! grep -c -F $needle big'
files_needed=big before=cold line "the same find, against reading" 1.25 "$absent" dd "$read_once"
files_needed=big before=cold line "crc32le of $g, cold" 1.0 '$M patch big -o 0 crc32le:4.. --dry-run' cksum 'cksum big'
files_needed=big before=cold line "the same sum, against reading" 1.25 '$M patch big -o 0 crc32le:4.. --dry-run' dd "$read_once"
files_needed=big before=cold line "cat -f canonical, $g cold" 1.0 '$M cat big -f canonical' 'dd and 0.1 s' "$read_once; sleep 0.1"
files_needed=big before=cold line "cat into wc -c, $g cold" 1.0 '$M cat big | wc -c' 'cat' 'cat big | wc -c'
files_needed=half before='cp --reflink=never --sparse=never half work && cold' most=3 line "zero --sparsify, $h, half zeros, cold" 1.0 \
    '$M zero -q work -r .. --sparsify' 'fallocate -d' 'fallocate -d work'

# Edits.
files_needed='zeros edits.mmp edits.xxd' before='cp --reflink=never zeros work' most=5 line "$edits edits of a script" x10 \
    '$M patch work --script edits.mmp' 'xxd -r' 'xxd -r edits.xxd work'
files_needed='big other' line "patch --diff of two equal $g files" x2.5 \
    '$M patch big --diff other' cmp 'cmp big other' 'dd: both read' "$read_both"
# Where stdout is /dev/null, cmp stops at the first difference.
files_needed='big changed' most=3 line "patch --diff, $((big / 1024)) differences" x2 '$M patch big --diff changed | cat' 'cmp -l' '{ cmp -l big changed || true; } | cat'
rm -f changed
files_needed=big line "patch --find of what is not there, $g" 1.2 "$absent" 'rg --mmap' '! rg -aboF --mmap $needle big'
files_needed=big line "the same find, against grep" x2 "$absent" 'grep -F' '! grep -c -F $needle big' 'dd: read' "$read_once"

# Maps.
files_needed=big line "map --populate, $g cached" x3 '$M map big --populate' 'vmtouch -t' 'vmtouch -t big'
files_needed=big line "map: what is resident, $g" x4 '$M map big' fincore 'fincore big' 'true: an empty process' "$empty"
files_needed=crumbs line "the same, written by 8K at a time" x2 '$M map crumbs' fincore 'fincore crumbs' 'true: an empty process' "$empty"
rm -f crumbs
files_needed=many line "map -R, $files small files" x2 '$M map -R many' vmtouch 'vmtouch many'
files_needed=many line "the same, against fincore" x2 '$M map -R many' fincore 'find many -type f -print0 | xargs -0 fincore'
rm -rf many
files_needed=big before='rm -f out' line "remap --order reverse --to, $g" 1.0 \
    '$M remap big --order reverse --to out' 'cp --reflink=never' 'cp --reflink=never big out'

# Dumps.
files_needed='small dump' most=3 line "cat -f canonical, $s" x100 \
    '$M cat small -f canonical' 'hexdump -C' 'hexdump -C small' 'dd: the dump, read' 'dd if=dump of=/dev/null bs=1M'
files_needed='small dump' most=9 line "cat -f xxd, $s" x15 \
    '$M cat small -f xxd' xxd 'xxd small' 'dd: a dump, read' 'dd if=dump of=/dev/null bs=1M'
files_needed='small dump' most=5 line "cat -x, $s" x30 \
    '$M cat small -x --color never' hexyl 'hexyl --color=never --no-squeezing small' \
    'dd: a dump, read' 'dd if=dump of=/dev/null bs=1M'
files_needed=small most=3 line "cat -f u32le, $s" x10 '$M cat small -f u32le' 'od -tu4' 'od -A x -v -t u4 small'
files_needed=small most=3 line "cat -f f64le, $s" x5 '$M cat small -f f64le' 'od -tf8' 'od -A x -v -t f8 small'
files_needed=small most=3 line "cat -f c, $s" x50 '$M cat small -f c' 'xxd -i' 'xxd -i small'

# Raw bytes.
files_needed=big line "cat into a reader of 1 MiB pieces, $g" x3 \
    '$M cat big | dd of=/dev/null bs=1M status=none' cat 'cat big | dd of=/dev/null bs=1M status=none'
files_needed=big line "the same, against splice, $g" 1.5 \
    '$M cat big | dd of=/dev/null bs=1M status=none' \
    'perl: splice' 'perl -e "$splice" <big | dd of=/dev/null bs=1M status=none'
files_needed=big before='rm -f out' line "cat > file, $g" 1.0 \
    '$M cat big >out' 'cp --reflink=never' 'cp --reflink=never big out' 'dd: the file, read' "$read_once"

# Zeros. The file is on its disk: what is still to be written would be flushed for whoever comes first.
work='cp --reflink=never big work && sync -d work'
files_needed=big before="$work" line "zero, $g" 1.0 \
    '$M zero -q work -r ..' 'fallocate -z' 'fallocate -z -l $big work' 'true: an empty process' "$empty"
files_needed=big before="$work" line "zero --punch, $g" 1.0 \
    '$M zero -q work -r .. --punch' 'fallocate -p' 'fallocate -p -l $big work' 'true: an empty process' "$empty"
files_needed=big before="$work" line "zero --method write, $g" 1.0 \
    '$M zero -q work -r .. --method write' dd 'dd if=/dev/zero of=work bs=1M count=$((big / MIB)) conv=notrunc status=none'
files_needed=half before='cp --reflink=never --sparse=never half work && sync -d work' most=3 line "zero --sparsify, $h, half zeros" x2 \
    '$M zero -q work -r .. --sparsify' 'fallocate -d' 'fallocate -d work' 'dd: the file, read' 'dd if=half of=/dev/null bs=1M'
rm -f half work

# Sync.
files_needed=big line "sync of a clean file, $g" 1.0 '$M sync -q big' 'sync -d' 'sync -d big' 'true: an empty process' "$empty"
# To a new file: ext4 writes back by itself what is written over a file that was cut to nothing.
files_needed=big before='rm -f work && cp --reflink=never big work' most=3 line "sync of a dirty file, $g" 1.1 '$M sync -q work' 'sync -d' 'sync -d work'
files_needed=big before='cat big >/dev/null' line "sync --evict of a clean file, $g" 1.1 '$M sync -q big --evict' 'vmtouch -e' 'vmtouch -e big'

# Large and many: time and memory grow no faster than the work, and what is not there takes none.
files_needed=tera line 'cat -o end-16 -x of a sparse TiB' ms10 '$M cat tera -o end-16 -x'
files_needed=hole line 'cat -x of a TiB of hole' ms1000 '$M cat hole -x'
files_needed='big sixty' line "crc32le of $((8 * scale)) GiB, one percent data" 2.0 '$M patch sixty -o 0 crc32le:4.. --dry-run' \
    'dd of the data' "dd if=big of=/dev/null bs=1M count=$((80 * scale)) status=none"
rm -f sixty
line '16 TiB of memory, --noreserve' ms100 '$M map --anonymous -n 16T --noreserve'
files_needed='sparse edits10.mmp' before='cp sparse work' most=3 line "$((10 * edits)) edits of a script" ms$((1250 * scale)) '$M patch work --script edits10.mmp'
rm -f sparse edits10.mmp work
files_needed=crowd most=3 line "map -R, $((10 * files)) small files" x2 '$M map -R crowd' vmtouch 'vmtouch crowd'
rm -rf crowd

if [ -z "$list$markdown" ]; then echo "$measured measured, $unmet below the bar, $even even"; fi
[ "$unmet" = 0 ]
