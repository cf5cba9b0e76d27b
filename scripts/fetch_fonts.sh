#!/usr/bin/env bash
# Fetch the pinned free fonts that the synthetic plate generator draws with.
#
#   scripts/fetch_fonts.sh [FOLDER]      default: $LPRNET_FONTS, else ~/.cache/lprnet/fonts
#
# Packages come through the ordinary clients (npm, apt-get); their licences (OFL, MIT) stay beside
# the fonts. A source that is not available is named and skipped; the script fails only when the
# folder holds no font at the end. More fonts may be added: any *.otf, *.ttf or *.woff is found.
set -euo pipefail

target="${1:-${LPRNET_FONTS:-$HOME/.cache/lprnet/fonts}}"
target="${target%%:*}"

npm_packages=(
  @fontsource/overpass@5.3.0
  @fontsource/overpass-mono@5.3.0
  @fontsource/barlow-condensed@5.3.0
  @fontsource/barlow-semi-condensed@5.3.0
  @fontsource/saira-condensed@5.3.0
  @fontsource/saira-extra-condensed@5.3.0
  @fontsource/oswald@5.3.0
  @fontsource/roboto-condensed@5.3.0
  @fontsource/pathway-gothic-one@5.3.0
  @fontsource/bebas-neue@5.3.0
  @fontsource/dosis@5.3.0
  @fontsource/rajdhani@5.3.0
  @fontsource/share-tech-mono@5.3.0
  @fontsource/sofia-sans-condensed@5.3.0
  @fontsource/archivo-narrow@5.3.0
  @fontsource/league-gothic@5.3.0
  @fontsource/b612-mono@5.3.0
  @fontsource/antonio@5.3.0
  @fontsource/fjalla-one@5.3.0
  @fontsource/quantico@5.3.0
  @fontsource/gemunu-libre@5.3.0
)
debian_packages=(fonts-opendin fonts-roadgeek fonts-national-park fonts-routed-gothic fonts-dejavu-core)

mkdir -p "$target"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

if command -v npm >/dev/null; then
  for package in "${npm_packages[@]}"; do
    name="${package#@fontsource/}"
    name="${name%@*}"
    if ! archive="$(npm pack --silent "$package" | tail -n 1)"; then
      echo "fetch_fonts: npm cannot fetch $package, skipped" >&2
      continue
    fi
    mkdir -p "npm/$name"
    tar -xzf "$archive" -C "npm/$name"
    find "npm/$name/package/files" -name "$name-latin-[4567]00-normal.woff" -exec cp {} "$target/" \;
    cp "npm/$name/package/LICENSE" "$target/LICENSE.$name"
  done
else
  echo "fetch_fonts: npm is not installed, its ${#npm_packages[@]} packages are skipped" >&2
fi

if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  for package in "${debian_packages[@]}"; do
    if ! apt-get download -q "$package" >apt.log 2>&1; then
      echo "fetch_fonts: apt-get cannot fetch $package ($(tail -n 1 apt.log)), skipped" >&2
      continue
    fi
    mkdir -p "deb/$package"
    dpkg-deb -x "$package"_*.deb "deb/$package"
    find "deb/$package/usr/share/fonts" \( -name '*.otf' -o -name '*.ttf' \) \
      ! -iname '*italic*' ! -iname '*outline*' ! -iname '*thin*' -exec cp {} "$target/" \;
    cp "deb/$package/usr/share/doc/$package/copyright" "$target/LICENSE.$package"
  done
else
  echo "fetch_fonts: apt-get or dpkg-deb is missing, Debian fonts are skipped" >&2
fi

count="$(find "$target" \( -name '*.otf' -o -name '*.ttf' -o -name '*.woff' \) | wc -l)"
if [ "$count" -eq 0 ]; then
  echo "fetch_fonts: no font could be fetched into $target; install npm or apt-get, or put fonts there" >&2
  exit 1
fi
echo "$count fonts in $target"
