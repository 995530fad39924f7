#compdef namm-mm
# Completes namm-mm in zsh; a key that ends in = gets no space after it.
_namm_mm() {
    local -a found keys names
    found=("${(@f)$(namm-mm completion words "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    keys=(${(M)found:#*=})
    names=(${found:#*=})
    if (( ${#keys} + ${#names} )); then
        (( ${#keys} )) && compadd -Q -S '' -- $keys
        (( ${#names} )) && compadd -Q -- $names
    else
        _files
    fi
}
compdef _namm_mm namm-mm
