#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the consumer with nothing but a compiler and pkg-config.
#
#   pkg_config.sh LIBDIR CC
set -euo pipefail
libdir=$1 cc=$2
project=$(dirname "$0")/project
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

export PKG_CONFIG_PATH=$libdir/pkgconfig
read -ra cflags <<<"$(pkg-config --cflags podattn)"
read -ra libs <<<"$(pkg-config --libs podattn)"
"$cc" -std=c11 -c "${cflags[@]}" "$project/consumer.c" -o "$scratch/consumer.o"
c++ -c "${cflags[@]}" "$project/header.cpp" -o "$scratch/header.o"
c++ "$scratch/consumer.o" "$scratch/header.o" "${libs[@]}" -o "$scratch/consumer"
LD_LIBRARY_PATH=$libdir "$scratch/consumer"
