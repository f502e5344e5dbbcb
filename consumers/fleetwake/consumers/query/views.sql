-- What is asked of the archive again and again, over `events`: a row for each record.
-- docs/queries.md says what each view is and has questions for them.

-- Each fact once: without what could not be read, and of an event that was published
-- again the first record only. Partitioned by what queries filter by, so that they
-- filter first: an event has one session and one type.
CREATE VIEW unique_events AS
SELECT *
FROM events
WHERE invalid_reason IS NULL
QUALIFY row_number() OVER (
    PARTITION BY session_id, event_type, event_id
    ORDER BY kafka_timestamp, kafka_offset
) = 1;

-- The same rows, for who asks for events of all types: a join with the few that are
-- there twice takes a part of the window's time and memory, and more than it where few
-- types are asked for. They are looked for among those whose hashes are there twice: to
-- group by numbers takes half of the time that texts take.
CREATE VIEW unique_log AS
SELECT events.*
FROM events LEFT JOIN (
    SELECT session_id, event_type, event_id, min(kafka_offset) AS first_offset
    FROM (SELECT *, hash(event_id) AS id_hash FROM events) JOIN (
        SELECT session_id, hash(event_id) AS id_hash
        FROM events
        WHERE invalid_reason IS NULL
        GROUP BY session_id, id_hash
        HAVING count(*) > 1
    ) USING (session_id, id_hash)
    WHERE invalid_reason IS NULL
    GROUP BY session_id, event_type, event_id
    HAVING count(*) > 1
) AS twice USING (session_id, event_type, event_id)
WHERE invalid_reason IS NULL
AND (first_offset IS NULL OR first_offset = kafka_offset);

-- The records of calls, each with the key of its call. Where a source has no ids, an
-- answer belongs to the oldest open attempt of its tool in the session: `balance` is
-- how many are open, and where it falls below all before, nobody asked. With an id a
-- record that was published again is here again, for `calls` takes the first of each:
-- to leave them out before would cost five times as much.
CREATE VIEW call_records AS
WITH found AS NOT MATERIALIZED (
    SELECT
        *,
        event_type IN ('tool.attempt', 'tool.confirmation') AS is_ask,
        event_type = 'tool.failure'
        OR outcome IN ('failure', 'timeout', 'persistence_failed') AS has_failed,
        event_type IN ('tool.blocked', 'tool.invalidated')
        OR outcome IN ('blocked', 'denied', 'invalidated') AS was_blocked,
        nullif(tool_call_id, '') AS call_id
    FROM events
    WHERE invalid_reason IS NULL
    -- All of tool.* but two. As a list of more than five it would be a join, which
    -- keeps the filter by session away from the files.
    AND event_type >= 'tool.' AND event_type < 'tool/'
    AND event_type != 'tool.progress' AND event_type != 'tool.persistence_failed'
),
once AS (
    SELECT *
    FROM found
    WHERE call_id IS NULL
    QUALIFY row_number() OVER (
        PARTITION BY session_id, event_type, event_id
        ORDER BY kafka_timestamp, kafka_offset
    ) = 1
),
balanced AS (
    SELECT
        *,
        sum(CASE WHEN is_ask THEN 1 ELSE -1 END) OVER so_far AS balance,
        count(*) FILTER (WHERE is_ask) OVER so_far AS asks
    FROM once
    WINDOW so_far AS (
        PARTITION BY session_id, tool_name
        ORDER BY kafka_timestamp, kafka_offset
        ROWS UNBOUNDED PRECEDING
    )
),
judged AS (
    SELECT
        *,
        NOT is_ask AND balance < least(0, coalesce(min(balance) OVER before, 0))
            AS is_unasked
    FROM balanced
    WINDOW before AS (
        PARTITION BY session_id, tool_name
        ORDER BY kafka_timestamp, kafka_offset
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
SELECT * EXCLUDE (call_id), call_id AS call_key
FROM found
WHERE call_id IS NOT NULL
UNION ALL BY NAME
SELECT
    * EXCLUDE (call_id, balance, asks, is_unasked),
    concat_ws(
        ' ',
        tool_name,
        CASE
            WHEN is_unasked THEN concat('at ', kafka_partition, '-', kafka_offset)
            WHEN is_ask THEN concat('no ', asks)
            ELSE concat('no ', count(*) FILTER (WHERE NOT is_ask AND NOT is_unasked)
                OVER (
                    PARTITION BY session_id, tool_name
                    ORDER BY kafka_timestamp, kafka_offset
                    ROWS UNBOUNDED PRECEDING
                ))
        END
    ) AS call_key
FROM judged;

-- A call of a tool: its attempt and its first answer. One without an answer has the
-- outcome `attempted` and no end.
CREATE VIEW calls AS
WITH paired AS (
    SELECT
        session_id,
        call_key,
        arg_min(event_id, kafka_offset) AS event_id,
        arg_min(tool_call_id, kafka_offset) AS tool_call_id,
        arg_min(tool_name, kafka_offset) AS tool_name,
        arg_min(agent_id, kafka_offset) AS agent_id,
        arg_min(team, kafka_offset) AS team,
        arg_min(user_id, kafka_offset) AS user_id,
        arg_min(model, kafka_offset) AS model,
        arg_min(turn_id, kafka_offset) AS turn_id,
        arg_min(round_id, kafka_offset) AS round_id,
        min(occurred_at) FILTER (WHERE is_ask) AS asked_at,
        arg_min(occurred_at, kafka_offset) FILTER (WHERE NOT is_ask) AS ended_at,
        arg_min(duration_ms, kafka_offset) FILTER (WHERE NOT is_ask) AS told_ms,
        arg_min(outcome, kafka_offset) FILTER (WHERE NOT is_ask) AS answer_outcome,
        arg_min(has_failed, kafka_offset) FILTER (WHERE NOT is_ask) AS is_failure,
        arg_min(was_blocked, kafka_offset) FILTER (WHERE NOT is_ask) AS is_blocked,
        arg_min(error_kind, kafka_offset) AS error_kind,
        arg_min(error_type, kafka_offset) AS error_type,
        arg_min(error_message, kafka_offset) AS error_message,
        arg_min(reason, kafka_offset) AS reason,
        arg_min(arguments_digest, kafka_offset) AS arguments_digest,
        arg_min(outcome_digest, kafka_offset) FILTER (WHERE NOT is_ask)
            AS outcome_digest,
        arg_min(fingerprint_version, kafka_offset) AS fingerprint_version,
        arg_min(arguments_preview, kafka_offset) AS arguments_preview,
        arg_min(result_preview, kafka_offset) AS result_preview,
        min(kafka_timestamp) AS kafka_timestamp,
        arg_min(kafka_partition, kafka_offset) AS kafka_partition,
        min(kafka_offset) AS kafka_offset
    FROM call_records
    GROUP BY session_id, call_key
)
SELECT
    * EXCLUDE (
        asked_at, ended_at, told_ms, answer_outcome, call_key, is_failure, is_blocked
    ),
    coalesce(
        asked_at, ended_at - to_microseconds((coalesce(told_ms, 0) * 1000)::BIGINT)
    ) AS started_at,
    ended_at,
    coalesce(
        told_ms,
        CASE
            WHEN ended_at >= asked_at
            THEN (epoch_us(ended_at) - epoch_us(asked_at)) / 1000
        END
    ) AS duration_ms,
    coalesce(answer_outcome, 'attempted') AS outcome,
    coalesce(is_failure, false) AS is_failure,
    coalesce(is_blocked, false) AS is_blocked,
    CASE
        WHEN arguments_digest IS NOT NULL
        THEN count(*) OVER (
            PARTITION BY session_id, tool_name, arguments_digest, fingerprint_version
        )
    END AS repeats
FROM paired;

-- What the models cost: an answer or an error of a model. Only answers have tokens.
CREATE VIEW model_usage AS
SELECT
    session_id, event_id, event_type, occurred_at, agent_id, team, user_id, turn_id,
    provider, model, outcome, error_kind, duration_ms, cost_usd,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    kafka_timestamp, kafka_partition, kafka_offset
FROM unique_events
WHERE event_type IN ('model.response', 'model.error');

-- Who or what let a call through, or did not; in the words of the source.
CREATE VIEW decisions AS
SELECT
    session_id, event_id, event_type, occurred_at, agent_id, team,
    user_id AS decided_by, turn_id, tool_name, tool_call_id,
    CASE
        WHEN event_type = 'verdict.release' THEN 'allowed'
        WHEN event_type IN ('tool.blocked', 'loop.block', 'verdict.block')
        AND outcome = 'unknown' THEN 'blocked'
        ELSE outcome
    END AS outcome,
    reason, source, source_event_type, attributes,
    kafka_timestamp, kafka_partition, kafka_offset
FROM unique_events
WHERE event_type IN ('policy.decision', 'sandbox.decision', 'permission.decision')
OR event_type IN ('tool.confirmation', 'tool.blocked')
OR event_type IN ('loop.block', 'verdict.block', 'verdict.release');

-- What went wrong, each fault once.
CREATE VIEW errors AS
SELECT
    session_id, event_id, event_type, occurred_at, agent_id, team, turn_id, tool_name,
    tool_call_id, model, severity, outcome, error_kind, error_type, error_message,
    error_class_digest, source, source_event_type,
    kafka_timestamp, kafka_partition, kafka_offset
FROM unique_events
WHERE event_type IN ('tool.failure', 'tool.persistence_failed', 'model.error', 'error')
OR outcome IN ('failure', 'timeout', 'persistence_failed')
AND event_type != 'custom';

-- What sources and agents said of loops. The alerts of fleetwake's own rules are in
-- the topic `alerts`, not in the archive.
CREATE VIEW alerts AS
SELECT
    session_id, event_id, event_type, occurred_at, agent_id, team, turn_id, tool_name,
    severity, outcome, reason, source, attributes,
    kafka_timestamp, kafka_partition, kafka_offset
FROM unique_events
WHERE event_type IN ('loop.warning', 'loop.block', 'verdict.block', 'verdict.release');

-- A prompt and all that follows it, where the source names its turns.
CREATE VIEW turns AS
SELECT
    session_id,
    turn_id,
    arg_min(agent_id, kafka_offset) AS agent_id,
    arg_min(team, kafka_offset) AS team,
    min(occurred_at) AS started_at,
    max(occurred_at) FILTER (WHERE event_type = 'turn.end') AS ended_at,
    max(occurred_at) AS last_at,
    count(*) AS events,
    sum(input_tokens) FILTER (WHERE event_type = 'model.response') AS input_tokens,
    sum(output_tokens) FILTER (WHERE event_type = 'model.response') AS output_tokens,
    sum(cost_usd) FILTER (WHERE event_type IN ('model.response', 'model.error'))
        AS cost_usd,
    count(*) FILTER (WHERE event_type IN ('loop.warning', 'loop.block')) AS loops
FROM unique_log
WHERE turn_id IS NOT NULL
GROUP BY session_id, turn_id;

-- A session in a row. Its state is what its last events say; `open` is all that has
-- no end, be it alive or lost.
CREATE VIEW sessions AS
WITH told AS (
    SELECT
        session_id,
        arg_min(agent_id, kafka_offset) AS agent_id,
        arg_min(team, kafka_offset) AS team,
        arg_min(user_id, kafka_offset) AS user_id,
        arg_min(environment, kafka_offset) AS environment,
        arg_min(source, kafka_offset) AS source,
        arg_min(parent_session_id, kafka_offset) AS parent_session_id,
        arg_min(root_session_id, kafka_offset) AS root_session_id,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at,
        count(*) AS events,
        count(*) FILTER (WHERE event_type = 'turn.start') AS turns,
        count(*) FILTER (WHERE event_type = 'model.response') AS model_responses,
        coalesce(
            sum(input_tokens) FILTER (WHERE event_type = 'model.response'), 0
        )::BIGINT AS input_tokens,
        coalesce(
            sum(output_tokens) FILTER (WHERE event_type = 'model.response'), 0
        )::BIGINT AS output_tokens,
        coalesce(
            sum(cost_usd)
            FILTER (WHERE event_type IN ('model.response', 'model.error')), 0
        ) AS cost_usd,
        count(*) FILTER (WHERE event_type = 'loop.warning') AS loop_warnings,
        count(*) FILTER (WHERE event_type IN ('loop.block', 'verdict.block')) AS blocks,
        count(*) FILTER (WHERE event_type IN ('error', 'model.error')) AS errors,
        count(*) FILTER (WHERE event_type = 'gap') AS gaps,
        max(kafka_timestamp) AS kafka_timestamp,
        arg_max(event_type, kafka_offset)
            FILTER (WHERE event_type IN ('verdict.block', 'verdict.release'))
            AS last_verdict,
        arg_max(event_type, kafka_offset)
            FILTER (WHERE event_type NOT IN ('producer.close', 'gap', 'custom', 'mark'))
            AS last_type
    FROM unique_log
    GROUP BY session_id
),
-- Beside the others, because a count of what is distinct would make them read a copy.
named AS (
    SELECT session_id, count(agent_id) AS agents
    FROM (SELECT DISTINCT session_id, agent_id FROM events WHERE invalid_reason IS NULL)
    GROUP BY session_id
),
-- By what repeats counts, in place of it: a window takes twice the time.
called AS (
    SELECT
        session_id,
        sum(alike)::BIGINT AS calls,
        sum(failures)::BIGINT AS failures,
        sum(blocked)::BIGINT AS blocked_calls,
        max(alike) FILTER (WHERE arguments_digest IS NOT NULL) AS most_repeats
    FROM (
        SELECT
            session_id, tool_name, arguments_digest, fingerprint_version,
            count(*) AS alike,
            count(*) FILTER (WHERE is_failure) AS failures,
            count(*) FILTER (WHERE is_blocked) AS blocked
        FROM calls
        GROUP BY session_id, tool_name, arguments_digest, fingerprint_version
    )
    GROUP BY session_id
)
SELECT
    session_id,
    told.agent_id,
    agents,
    told.* EXCLUDE (session_id, agent_id, last_verdict, last_type, kafka_timestamp),
    coalesce(calls, 0) AS calls,
    coalesce(failures, 0) AS failures,
    coalesce(blocked_calls, 0) AS blocked_calls,
    coalesce(most_repeats, 0) AS most_repeats,
    CASE
        WHEN last_type = 'session.end' THEN 'ended'
        WHEN last_verdict = 'verdict.block' THEN 'blocked'
        WHEN last_type = 'loop.block' THEN 'blocked'
        WHEN last_type = 'tool.confirmation' THEN 'waiting'
        ELSE 'open'
    END AS state,
    kafka_timestamp
FROM told JOIN named USING (session_id) LEFT JOIN called USING (session_id);
