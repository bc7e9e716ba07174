# SPDX-License-Identifier: MIT
# For Homebrew on Linux. url and sha256 are those of the release that `make dist` makes, once it lies somewhere.
class Nanoq < Formula
  desc "Durable background-task queue in your own database"
  homepage "https://example.org/nanoq"
  url "https://example.org/nanoq/nanoq-0.2.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "MIT"

  depends_on "meson" => :build
  depends_on "ninja" => :build
  depends_on "pkgconf" => :build
  depends_on "python@3.12" => :build
  depends_on "jansson"
  depends_on :linux
  depends_on "mariadb-connector-c"
  depends_on "ncurses"
  depends_on "sqlite"

  def install
    system "meson", "setup", "build", "-Dtests=false", "-Dsqlite=enabled", "-Dmysql=enabled",
                    "-Ddashboard=disabled", *std_meson_args
    system "meson", "compile", "-C", "build"
    system "meson", "install", "-C", "build"
  end

  test do
    ENV["NANOQ_DB"] = "sqlite:#{testpath}/queue.db"
    system bin/"nanoq", "migrate"
    system bin/"nanoq", "add", "email", "{}"
    system bin/"nanoq", "work", "--drain", "--", "cat"
  end
end
