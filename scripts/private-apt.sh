# shellcheck shell=sh
# Sourced. An apt of our own: it reads the machine's Debian source and keyring and keeps its lists and downloads under
# build/apt/. Nothing is installed over the system, its architecture list stays as it is, and no root is needed.
#
#   private_apt_prepare             lists of the main suite for amd64 and i386 (network, once)
#   private_apt ARGS                apt-get with both architectures, amd64 first
#   private_apt_fetch ARCH STATUS DIR PACKAGE...
#                                   PACKAGEs and all they depend on that the dpkg status file STATUS does not have,
#                                   downloaded into DIR as .deb files
#   private_apt_download DIR PACKAGE...
#                                   PACKAGEs alone, NAME or NAME:ARCH
#   private_apt_unpack DIR ROOT     unpacks the .deb files of DIR into ROOT

# build_dir is set by the script that sources this file.
apt_dir=$build_dir/apt

# One line per Debian source of this machine, `deb [options] URI SUITE main`, from one-line files and deb822 files alike.
# Only the main suite is taken: the indexes of the security suite are now and then out of step between architectures,
# and one version for both is what is needed here.
debian_sources() {
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        case $file in
        *.list)
            awk -v codename="$codename" '
                $1 == "deb" {
                    options = ""; i = 2
                    if ($2 ~ /^\[/) {
                        while (i <= NF) { word = $i; gsub(/[][]/, "", word); if (word ~ /^(signed-by|trusted)=/) options = options " " word; if ($(i++) ~ /\]$/) break }
                    }
                    uri = $i; suite = $(i + 1); main = 0
                    for (j = i + 2; j <= NF; j++) if ($j == "main") main = 1
                    if (main && uri !~ /^cdrom:/ && (suite == codename || suite == "stable" || suite == "oldstable"))
                        print "deb" (options == "" ? "" : " [" substr(options, 2) "]"), uri, suite, "main"
                }' "$file" ;;
        *.sources)
            awk -v codename="$codename" -v RS= '
                {
                    split("", field); name = ""
                    lines = split($0, line, "\n")
                    for (l = 1; l <= lines; l++) {
                        if (line[l] ~ /^#/) continue
                        if (match(line[l], /^[A-Za-z-]+:/)) { name = tolower(substr(line[l], 1, RLENGTH - 1)); line[l] = substr(line[l], RLENGTH + 1) }
                        field[name] = field[name] " " line[l]
                    }
                    if (field["enabled"] ~ /no/ || field["types"] !~ /deb( |$)/ || (" " field["components"] " ") !~ / main /) next
                    # A key written into the file itself is left to the keyrings in trusted.gpg.d.
                    key = field["signed-by"]; gsub(/ /, "", key)
                    options = key ~ /^\// ? " [signed-by=" key "]" : ""
                    uris = split(field["uris"], uri, " "); suites = split(field["suites"], suite, " ")
                    for (u = 1; u <= uris; u++) for (s = 1; s <= suites; s++)
                        if (suite[s] == codename || suite[s] == "stable" || suite[s] == "oldstable")
                            print "deb" options, uri[u], suite[s], "main"
                }' "$file" ;;
        esac
    done | awk '!seen[$0]++'
}

private_apt() {
    apt-get -c "$apt_dir/apt.conf" "$@"
}

private_apt_prepare() {
    [ -e "$apt_dir/updated.stamp" ] && return 0
    command -v apt-get >/dev/null || die "no apt-get here: this path needs Debian 12 or a relative of it"
    mkdir -p "$apt_dir/state/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/parts"
    debian_sources >"$apt_dir/sources.list"
    [ -s "$apt_dir/sources.list" ] || die "no Debian main suite in /etc/apt/sources.list or /etc/apt/sources.list.d: add one and run again"
    : >"$apt_dir/state/no-status"
    # What the system's configuration has to say about proxies and the like is read as well (Dir::Etc::parts stays).
    cat >"$apt_dir/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt_dir/sources.list";
Dir::Etc::sourceparts "$apt_dir/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt_dir/parts";
Dir::State "$apt_dir/state";
Dir::State::lists "lists/";
Dir::State::status "$apt_dir/state/no-status";
Dir::Cache "$apt_dir/cache";
Dir::Cache::archives "archives/";
Dir::Log "$apt_dir";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; "i386"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
#clear DPkg::Post-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::CNF;
Acquire::Languages "none";
Acquire::Retries "3";
CONF
    # An index that cannot be had is a warning for apt-get: look at what is there afterwards.
    private_apt -qq -o APT::Update::Error-Mode=any update >"$apt_dir/update.log" 2>&1 ||
        die "cannot read the Debian package lists: $(grep -m1 '^[EW]:' "$apt_dir/update.log" || echo "see $apt_dir/update.log")"
    touch "$apt_dir/updated.stamp"
}

private_apt_fetch() {
    arch=$1 status=$2 dir=$3
    shift 3
    mkdir -p "$dir/partial"
    private_apt -qq -y --download-only --no-install-recommends --allow-downgrades \
        -o APT::Architecture="$arch" -o Dir::State::status="$status" -o Dir::Cache::archives="$dir/" \
        -o Dir::Cache::pkgcache="" -o Dir::Cache::srcpkgcache="" \
        install "$@" >"$dir/fetch.log" 2>&1 ||
        die "cannot fetch $*: $(grep -m1 '^E:' "$dir/fetch.log" || echo "see $dir/fetch.log")"
}

private_apt_download() {
    (cd "$1" && shift && private_apt -qq download "$@" >download.log 2>&1) ||
        die "cannot fetch $*: $(grep -m1 '^E:' "$1/download.log" || echo "see $1/download.log")"
}

private_apt_unpack() {
    mkdir -p "$2"
    for deb in "$1"/*.deb; do
        dpkg-deb -x "$deb" "$2" || die "cannot unpack $deb"
    done
}
