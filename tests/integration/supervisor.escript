#!/usr/bin/env escript
%% SPDX-License-Identifier: LGPL-2.1-or-later
%%
%% What real supervisors of Erlang's make of trees: each line of standard input is one, and is answered by one line.
%%
%%   c:POLICY:INTENSITY:WINDOW   a worker with a supervisor of its own, below the one at the top
%%   s:CELL:END:N                its worker ends (normal, crash or kill), and the next N starts of it fail
%%   w:MS                        nothing happens for a while
%%
%% For each end: TIME:UNTIL:WHAT:OTHERS, the monotonic times in µs before and after it; r (restarted), e (not restarted), x (its supervisor has given up) or - (it was not
%% there any more); and whether all other workers are those that they were.
-mode(compile).
-behaviour(supervisor).
-export([init/1, start_sub/2, start_worker/1]).

main([]) ->
    logger:set_primary_config(level, none),
    Trees = [spawn_monitor(fun() -> exit({told, tree(Line)}) end) || Line <- lines()],
    lists:foreach(fun tell/1, Trees).

tell({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {told, Text}} -> io:format("~s~n", [Text]);
        {'DOWN', Monitor, process, Pid, Why} -> io:format(standard_error, "~p~n", [Why]), halt(1)
    end.

lines() ->
    case io:get_line("") of
        eof -> [];
        Line -> [Line | lines()]
    end.

%% ---- a tree ------------------------------------------------------------------------------------------------

init(top) ->
    {ok, {#{strategy => one_for_one, intensity => 0, period => 1}, []}};
init({Fails, [Policy, Intensity, Window]}) ->
    {ok, {#{strategy => one_for_one, intensity => list_to_integer(Intensity), period => list_to_integer(Window)},
          [#{id => worker, start => {?MODULE, start_worker, [Fails]}, restart => list_to_atom(Policy), shutdown => brutal_kill}]}}.

start_sub(Fails, Cell) ->
    supervisor:start_link(?MODULE, {Fails, Cell}).

start_worker(Fails) ->
    case counters:get(Fails, 1) of
        0 -> {ok, spawn_link(fun work/0)};
        _ -> counters:sub(Fails, 1, 1), {error, planned}
    end.

work() ->
    receive
        "normal" -> ok;
        "crash" -> exit(crashed)
    end.

tree(Line) ->
    process_flag(trap_exit, true),
    Words = [string:lexemes(Word, ":") || Word <- string:lexemes(Line, " \n")],
    {ok, Top} = supervisor:start_link(?MODULE, top),
    Cells = [begin_cell(Top, I, Cell) || {I, ["c" | Cell]} <- lists:zip(lists:seq(1, length(Words)), Words)],
    lists:join(" ", lists:append([step(Cells, Word) || Word <- Words])).

begin_cell(Top, I, Cell) ->
    Fails = counters:new(1, []),
    {ok, Sub} = supervisor:start_child(Top, #{id => I, start => {?MODULE, start_sub, [Fails, Cell]}, restart => temporary,
                                              type => supervisor, shutdown => infinity}),
    {Sub, Fails}.

%% ---- what happens to it ------------------------------------------------------------------------------------

step(_, ["c" | _]) ->
    [];
step(_, ["w", Ms]) ->
    timer:sleep(list_to_integer(Ms)),
    [];
step(Cells, ["s", Number, End, N]) ->
    {Sub, Fails} = lists:nth(list_to_integer(Number) + 1, Cells),
    Others = [Other || {Other, _} <- Cells, Other =/= Sub],
    Before = [worker(Other) || Other <- Others],
    Time = erlang:monotonic_time(microsecond),
    What = what(Sub, worker(Sub), End, Fails, list_to_integer(N)),
    Until = erlang:monotonic_time(microsecond),
    Same = Before =:= [worker(Other) || Other <- Others],
    [io_lib:format("~b:~b:~s:~p", [Time, Until, What, Same])].

what(Sub, Worker, End, Fails, N) when is_pid(Worker) ->
    counters:put(Fails, 1, N),
    Monitor = monitor(process, Worker),
    finish(Worker, End),
    receive {'DOWN', Monitor, process, Worker, _} -> ok end,
    What = settle(Sub, Worker),
    counters:put(Fails, 1, 0),
    What;
what(_, _, _, _, _) ->
    "-".

finish(Worker, "kill") -> exit(Worker, kill);
finish(Worker, End) -> Worker ! End.

settle(Sub, Before) ->
    case worker(Sub) of
        Before -> settle(Sub, Before);          % it has not heard of it yet
        restarting -> settle(Sub, Before);
        none -> "e";
        gone -> "x";
        _ -> "r"
    end.

worker(Sub) ->
    case catch supervisor:which_children(Sub) of
        [{worker, undefined, _, _}] -> none;
        [{worker, Worker, _, _}] -> Worker;
        [] -> none;
        {'EXIT', _} -> gone
    end.
