# Completes namm-mm in bash. Readline splits words at =, so that only what follows it is given back.
_namm_mm() {
    local line=${COMP_LINE:0:COMP_POINT} word start='' found
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    word=${words[${#words[@]}-1]}
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && start=${word%"${word##*=}"}
    COMPREPLY=()
    while IFS= read -r found; do
        COMPREPLY+=("${found#"$start"}")
    done < <(namm-mm completion words "${words[@]:1}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _namm_mm namm-mm
