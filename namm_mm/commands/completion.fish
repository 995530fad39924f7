# Completes namm-mm in fish.
function __namm_mm_words
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    namm-mm completion words $before[2..] "$typed" 2>/dev/null
end
complete -c namm-mm -f -a '(__namm_mm_words)'
complete -c namm-mm -n '__fish_seen_subcommand_from report' -F
for option in file configs output merge
    complete -c namm-mm -l $option -r -F
end
