/* A module for Redis with the kinds of commands that matter to a proxy:
 *
 *   T.SET key value         a write whose key stands where Redis says
 *   T.LAST arg ... key      a read of its last argument, which only the module can tell: the value of the key
 *   T.PUT value ... key     a write of its first argument to its last
 *   T.ARGS arg ...          no key: the number of arguments
 *
 * Modules need no header: what they call, they ask of the server by name, through the function that their context begins with. */

#include <stddef.h>

typedef struct Ctx Ctx;
typedef struct String String;
typedef struct Reply Reply;
typedef int (*Command)(Ctx *ctx, String **argv, int argc);

enum { OK = 0, ERR = 1, API_VERSION = 1 };

static void (*SetModuleAttribs)(Ctx *ctx, const char *name, int version, int api);
static int (*CreateCommand)(Ctx *ctx, const char *name, Command f, const char *flags, int first, int last, int step);
static int (*IsKeysPositionRequest)(Ctx *ctx);
static void (*KeyAtPos)(Ctx *ctx, int pos);
static int (*WrongArity)(Ctx *ctx);
static int (*ReplyWithLongLong)(Ctx *ctx, long long n);
static int (*ReplyWithCallReply)(Ctx *ctx, Reply *reply);
static Reply *(*Call)(Ctx *ctx, const char *command, const char *format, ...);

static int set(Ctx *ctx, String **argv, int argc) {
    if (argc != 3) return WrongArity(ctx);
    return ReplyWithCallReply(ctx, Call(ctx, "SET", "!ss", argv[1], argv[2]));
}

static int last(Ctx *ctx, String **argv, int argc) {
    if (IsKeysPositionRequest(ctx)) {
        KeyAtPos(ctx, argc - 1);
        return OK;
    }
    if (argc < 2) return WrongArity(ctx);
    return ReplyWithCallReply(ctx, Call(ctx, "GET", "s", argv[argc - 1]));
}

static int put(Ctx *ctx, String **argv, int argc) {
    if (IsKeysPositionRequest(ctx)) {
        KeyAtPos(ctx, argc - 1);
        return OK;
    }
    if (argc < 3) return WrongArity(ctx);
    return ReplyWithCallReply(ctx, Call(ctx, "SET", "!ss", argv[argc - 1], argv[1]));
}

static int args(Ctx *ctx, String **argv, int argc) {
    (void)argv;
    return ReplyWithLongLong(ctx, argc - 1);
}

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
    (void)argv, (void)argc;
    int (*get)(const char *name, void *to) = *(int (**)(const char *, void *))ctx;
    get("RedisModule_SetModuleAttribs", &SetModuleAttribs);
    get("RedisModule_CreateCommand", &CreateCommand);
    get("RedisModule_IsKeysPositionRequest", &IsKeysPositionRequest);
    get("RedisModule_KeyAtPos", &KeyAtPos);
    get("RedisModule_WrongArity", &WrongArity);
    get("RedisModule_ReplyWithLongLong", &ReplyWithLongLong);
    get("RedisModule_ReplyWithCallReply", &ReplyWithCallReply);
    get("RedisModule_Call", &Call);
    SetModuleAttribs(ctx, "t", 1, API_VERSION);
    if (CreateCommand(ctx, "t.set", set, "write deny-oom", 1, 1, 1) != OK) return ERR;
    if (CreateCommand(ctx, "t.last", last, "readonly getkeys-api", 0, 0, 0) != OK) return ERR;
    if (CreateCommand(ctx, "t.put", put, "write deny-oom getkeys-api", 0, 0, 0) != OK) return ERR;
    return CreateCommand(ctx, "t.args", args, "readonly", 0, 0, 0);
}
