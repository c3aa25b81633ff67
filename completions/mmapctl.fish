# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mmapctl_global_optspecs
    string join \n json q/quiet v/verbose color= progress= h/help V/version
end

function __fish_mmapctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mmapctl_global_optspecs) -- $cmd 2>/dev/null
    or begin
        set -e cmd[-1]
        argparse -s (__fish_mmapctl_global_optspecs) -- $cmd 2>/dev/null
    end
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mmapctl_using_subcommand
    set -l cmd (__fish_mmapctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mmapctl -n "__fish_mmapctl_needs_command" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_needs_command" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_needs_command" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -s V -l version -d 'Print version'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "map" -d 'Make a mapping, show how it is held in memory, keep it, or run a command beside it'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "cat" -d 'Show or stream a range of a file: raw, or as a dump'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "patch" -d 'Edit bytes in place: checked, and all or nothing'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "sync" -d 'Make a range of a file durable, and prove it'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "zero" -d 'Zero a range by the cheapest method that the file system has'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "remap" -d 'Grow or shrink a file with its blocks, or put its pages in another order'
complete -c mmapctl -n "__fish_mmapctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l memfd -d 'Map a new file in memory, of --length bytes, which other processes can open while the mapping exists' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l files-from -d 'Also map the files listed in this file, one name on each line; - reads the list from stdin' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l max-size -d 'Skip files that are larger' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l include -d 'Map only files whose name matches, or whose path, if GLOB has a slash; may be repeated' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l exclude -d 'Skip files and directories whose name matches, or whose path; may be repeated' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s o -l offset -d 'Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s n -l length -d 'Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s r -l range -d 'The range START..END, without END, or START..+LENGTH; \'..\' is the whole file' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l prot -d 'Access rights of the mapping [default: r for a file mapped shared that no verb stores into, otherwise rw]' -r -f -a "r\t'Read'
rw\t'Read and write'
rx\t'Read and execute'
rwx\t'Read, write and execute'
none\t'No access: reserved address space'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l huge -d 'Use huge pages of this size for anonymous memory or a memfd: 2M, 1G [default: Hugepagesize of /proc/meminfo]' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l address -d 'Map at this address, a multiple of the page size, and never over another mapping' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l lock -d 'Lock the pages in memory: now, or each when it is first touched' -r -f -a "now\t'All pages, before anything else happens'
on-fault\t'Each page when it is first touched'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l advise -d 'Give the kernel this advice, see madvise(2); may be repeated' -r -f -a "normal\t''
random\t''
sequential\t''
willneed\t''
dontneed\t''
free\t''
cold\t''
pageout\t''
hugepage\t''
nohugepage\t''
collapse\t''
mergeable\t''
unmergeable\t''
dontdump\t''
dodump\t''
dontfork\t''
dofork\t''"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l watch -d 'Redraw the report every INTERVAL (default: 1s) until Ctrl-C' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s c -d 'Run a verb, without FILE, on this mapping; also \'fork VERB\', \'! SHELL COMMAND\', or - to read verbs from stdin, one on each line. May be repeated' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l script -d 'Then run the verbs in this file, one on each line' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l lock-timeout -d 'How long to wait for other writers\' advisory lock (flock): 500ms, 10s, 2m' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l journal -d 'Path of the recovery journal of --atomic, in place of one beside the file' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l hold -d 'Keep the mapping until SIGTERM or Ctrl-C, or for a time: --hold=10s' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l ready-fd -d 'When everything is ready, write a line to this file descriptor and close it' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l anonymous -d 'Map --length bytes of anonymous memory'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s R -l recursive -d 'Map the files in directories and their subdirectories'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s 0 -l null -d 'Names in --files-from end with a NUL, as \'find -print0\' writes them'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s L -l dereference -d 'Follow symbolic links in directories'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l cross-file-system -d 'Enter directories on other file systems'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s s -l summarize -d 'Print only the totals'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l shared -d 'Stores change the file, for everybody who maps it (the default, except for anonymous memory)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l private -d 'Stores stay in this mapping, as copies of its pages (the default for anonymous memory)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l noreserve -d 'Reserve no swap space or huge pages in advance (MAP_NORESERVE)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l dax -d 'Map persistent memory directly, so that stores need no msync (MAP_SYNC)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l populate -d 'Bring all pages into memory now'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l keep-going -d 'Continue after a verb that failed; the session ends with the exit code of the first failure'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l force -d 'Allow writing to set-user-ID files, read-only files and devices'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -l ignore-journal -d 'Map the file even if an interrupted atomic patch has not been recovered'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s o -l offset -d 'Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s n -l length -d 'Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s r -l range -d 'The range START..END, without END, or START..+LENGTH; \'..\' is the whole file' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s f -l format -d 'Output format; by default hex on a terminal, and raw elsewhere' -r -f -a "raw\t'The bytes as they are'
hex\t'For people: coloured by kind of byte, with holes named'
canonical\t'As \'hexdump -C\''
xxd\t'As \'xxd\'; \'xxd -r\' reads it'
plain\t'As \'xxd -p\''
c\t'As \'xxd -i\': an array for a C source'
u8\t'Columns of numbers, as \'od -t u1\''
i8\t'Columns of signed numbers, as \'od -t d1\''
u16le\t'Unsigned, 16 bits, lowest byte first'
u16be\t'Unsigned, 16 bits, highest byte first'
i16le\t'Signed, 16 bits, lowest byte first'
i16be\t'Signed, 16 bits, highest byte first'
u32le\t'Unsigned, 32 bits, lowest byte first'
u32be\t'Unsigned, 32 bits, highest byte first'
i32le\t'Signed, 32 bits, lowest byte first'
i32be\t'Signed, 32 bits, highest byte first'
u64le\t'Unsigned, 64 bits, lowest byte first'
u64be\t'Unsigned, 64 bits, highest byte first'
i64le\t'Signed, 64 bits, lowest byte first'
i64be\t'Signed, 64 bits, highest byte first'
f32le\t'Floating-point, 32 bits, lowest byte first'
f32be\t'Floating-point, 32 bits, highest byte first'
f64le\t'Floating-point, 64 bits, lowest byte first'
f64be\t'Floating-point, 64 bits, highest byte first'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l access -d 'Load units of exactly this many bytes, each once, for device registers' -r -f -a "1\t''
2\t''
4\t''
8\t''"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l watch -d 'Redraw the range every INTERVAL (default: 1s) until Ctrl-C, and mark the bytes that have changed' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l journal -d 'Also look for the recovery journal of --atomic at this path' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s x -d 'Short for --format hex'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l no-squeeze -d 'Print repeated rows and holes in full'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l skip-holes -d 'Keep holes when raw bytes are written to a file; elsewhere they are written as zeros'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l drop-behind -d 'Drop from memory what was not there before, once it is read: for backups and caches of CI'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -l ignore-journal -d 'Read the file even if an interrupted atomic patch has not been recovered'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand cat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s o -l offset -d 'Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s n -l length -d 'Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s r -l range -d 'The range START..END, without END, or START..+LENGTH; \'..\' is the whole file' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l find -d 'Write where this pattern is found, which must be in exactly one place: 7405, 74??eb, text:V1' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l nth -d 'Write at the N-th match of --find, counted from 1' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s e -l edit -d 'An edit as a line of a script: \'0x40: 7405 -> 9090\'; may be repeated' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l script -d 'Read edits from a script (- for stdin), see mmapctl-patch-script(5)' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l format -d 'The format of the script' -r -f -a "script\t'An edit script, see mmapctl-patch-script(5)'
xxd\t'A dump of xxd, read strictly'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l diff -d 'Print the script that turns FILE into OTHER, which has the same length; write nothing' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l expect -d 'Write only if these bytes are there now, or the new ones already are; otherwise exit with 1' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l undo -d 'First write a script that undoes the patch to this new file' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l access -d 'Store units of exactly this many bytes and read nothing, for device registers' -r -f -a "1\t''
2\t''
4\t''
8\t''"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l lock-timeout -d 'How long to wait for other writers\' advisory lock (flock): 500ms, 10s, 2m' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l journal -d 'Path of the recovery journal of --atomic, in place of one beside the file' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l all -d 'Write at every match of --find'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l reverse -d 'Apply --edit and --script in reverse: replace new bytes by old ones'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l strict -d 'Exit with 1 if the old bytes are not there, even if the new ones are, or if nothing would change'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l grow -d 'Let edits reach past the end of the file, which grows accordingly'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l dry-run -d 'Check everything, write nothing, and print the edit script that would be applied'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l sync -d 'Return only when the new bytes are on the device (msync)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l atomic -d 'Write all bytes or none, even if the power fails (by a recovery journal beside the file); implies --sync'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -l force -d 'Allow writing to set-user-ID files, read-only files and devices'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand patch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s o -l offset -d 'Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s n -l length -d 'Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s r -l range -d 'The range START..END, without END, or START..+LENGTH; \'..\' is the whole file' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l journal -d 'Also look for the recovery journal of --atomic at this path' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l async -d 'Start writing and return at once; nothing is promised'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l invalidate -d 'Also ask other mappings of the range to show the new bytes (MS_INVALIDATE)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -l evict -d 'Then drop the clean pages of the range from the page cache'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s o -l offset -d 'Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s n -l length -d 'Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s r -l range -d 'The range START..END, without END, or START..+LENGTH; \'..\' is the whole file' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l method -d 'The method; auto tries zero-range, then write' -r -f -a "auto\t'The cheapest method that keeps blocks allocated'
zero-range\t'fallocate(FALLOC_FL_ZERO_RANGE): blocks stay, nothing is written'
punch\t'fallocate(FALLOC_FL_PUNCH_HOLE): blocks are freed'
write\t'Store zeros through the mapping'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l lock-timeout -d 'How long to wait for other writers\' advisory lock (flock): 500ms, 10s, 2m' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l journal -d 'Path of the recovery journal of --atomic, in place of one beside the file' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l punch -d 'Free the blocks; the same as --method punch'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l sparsify -d 'Free blocks that contain only zeros; no byte changes'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l dry-run -d 'Report what would be zeroed, and what --punch and --sparsify would free; write nothing'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l sync -d 'Return only when the zeros are on the device (msync)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -l force -d 'Allow writing to set-user-ID files, read-only files and devices'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand zero" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l progress -d 'Show progress bars' -r -f -a "auto\t'If the output is a terminal'
always\t'Always'
never\t'Never'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l size -d 'The new length: 64K, +1M (longer by), -1M (shorter by)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l order -d 'Put pages in another order: 3,0..2,5*4 (numbers of units), reverse, linear, or @PATH to read a list' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l unit -d 'The size of a unit of the order, in pages [default: 1]' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l method -d 'How to make the mapping [default: mmap]' -r -f -a "mmap\t'mmap(2) with MAP_FIXED for each piece; needs only read permission'
remap-file-pages\t'remap_file_pages(2) for each piece; needs write permission'"
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l to -d 'Instead of mapping the pages, write them in that order to this new file, or with - to stdout' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l address -d 'In a session: move the mapping to this address, never over another mapping (MREMAP_FIXED)' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l lock-timeout -d 'How long to wait for other writers\' advisory lock (flock): 500ms, 10s, 2m' -r
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l journal -d 'Path of the recovery journal of --atomic, in place of one beside the file' -r -F
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l json -d 'Print each report and each error as one JSON object'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -s q -l quiet -d 'Print no report and no progress bar'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -s v -l verbose -d 'Print each mapping system call on stderr, as strace does'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l sparse -d 'Do not allocate blocks for the new bytes: they become a hole'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l keep-file -d 'In a session: resize only the mapping, even past the end of the file, and leave the file as it is'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l no-move -d 'In a session: fail rather than move the mapping to another address'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l dont-unmap -d 'In a session: move the pages, and keep the old mapping without them (MREMAP_DONTUNMAP)'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l force -d 'Allow writing to set-user-ID files, read-only files and devices'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -l ignore-journal -d 'With --order: show the file even if an interrupted atomic patch has not been recovered'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand remap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "map" -d 'Make a mapping, show how it is held in memory, keep it, or run a command beside it'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "cat" -d 'Show or stream a range of a file: raw, or as a dump'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "patch" -d 'Edit bytes in place: checked, and all or nothing'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "sync" -d 'Make a range of a file durable, and prove it'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "zero" -d 'Zero a range by the cheapest method that the file system has'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "remap" -d 'Grow or shrink a file with its blocks, or put its pages in another order'
complete -c mmapctl -n "__fish_mmapctl_using_subcommand help; and not __fish_seen_subcommand_from map cat patch sync zero remap help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
