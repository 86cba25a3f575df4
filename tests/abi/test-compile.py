#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Public headers stand alone, and services compile without a word, with every compiler that is here.

What must not compile is tried as well: the sentence that the author gets is part of the SDK.
"""
import os
import shutil
import subprocess
import sys
import tempfile

include, here, examples = sys.argv[1:]
WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Wundef', '-Wwrite-strings', '-Wformat=2', '-Werror']
C = ['-std=gnu11', '-Wmissing-prototypes', '-Wstrict-prototypes']
COMPILERS = {
    'gcc': C + WARNINGS,
    'gcc -O2': C + WARNINGS,
    'clang': C + WARNINGS,
    'tcc': ['-Wall', '-Werror'],
    'g++': ['-std=gnu++20'] + WARNINGS,
    'clang++': ['-std=gnu++20'] + WARNINGS,
}
BAD = {
    'misspelt type': ('CELL_STRUCT (S, field (u65, x))', 'u65'),
    'nested array': ('CELL_STRUCT (S, field (array (array (u8)), x))', 'an_array_or_optional_stands_alone_in_a_row'),
    'undeclared error': ('CELL_METHOD (T, m, fails (Nothing)) { return CELL_OK; }', 'Nothing'),
    'unknown word': ('CELL_METHOD (T, m, oneweg) { return CELL_OK; }', 'oneweg'),
    '32 rows': ('CELL_STRUCT (S, ' + ', '.join(f'field (u8, x{i})' for i in range(32)) + ')', 'at_most_31_rows_are_allowed_here'),
    'wrong format': ('CELL_METHOD (T, m, in (u64, n)) { return cell_fail_status (call, CELL_ERROR_INVALID, "%s", in->n); }', '%s'),
    'wrong struct': ('CELL_STRUCT (S, field (u8, x))\nCELL_SAVE (T, s) { int i = 0; return cell_save (to, S, &i); }', 'S'),
}
results = []


def compile_(compiler, source, output):
    command = compiler.split() + COMPILERS[compiler] + ['-D_GNU_SOURCE', '-I', include, '-I', here, '-c', source, '-o', output]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C'}, check=False)
    return run.returncode == 0, run.stdout + run.stderr


def report(name, good, output):
    results.append(good)
    for line in [] if good else output.splitlines()[:30]:
        print('#', line)
    print('ok' if good else 'not ok', len(results), name, flush=True)


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    return path


def is_cxx(compiler):
    return '++' in compiler


def quietly(directory, compiler, title, source):
    good, output = compile_(compiler, source, os.path.join(directory, 'out.o'))
    report(f'{compiler}: {title}', good and not output.strip(), output)


with tempfile.TemporaryDirectory() as tmp:
    present = [c for c in COMPILERS if shutil.which(c.split()[0])]
    headers = sorted('cell/' + n for n in os.listdir(os.path.join(include, 'cell')) if n.endswith('.h')) + ['ledger-remote.h']
    for compiler in present:
        suffix = '.cpp' if is_cxx(compiler) else '.c'
        for header in headers:
            quietly(tmp, compiler, header, write(tmp, 'header' + suffix, f'#include <{header}>\n#include <{header}>\n'))
        for name in ['thrower.cpp', 'remote-cxx.cpp'] if is_cxx(compiler) else ['every.c', 'every-more.c']:
            quietly(tmp, compiler, name, os.path.join(here, name))
        for name in ['counter/counter.cpp'] if is_cxx(compiler) else ['ledger/ledger.c']:
            quietly(tmp, compiler, name, os.path.join(examples, name))
    for title, (text, culprit) in BAD.items():
        path = write(tmp, 'bad.c', '#include <cell/cell.h>\ntypedef struct { int x; } T;\n' + text + '\n')
        for compiler in [c for c in ('gcc', 'clang') if c in present]:
            good, output = compile_(compiler, path, os.path.join(tmp, 'bad.o'))
            report(f'{compiler}: refuses {title}', not good and culprit in output, output or 'it compiled')
print(f'1..{len(results)}')
sys.exit(not all(results))
