// Finds the property names that nobody outside the package can meet, for esbuild to shorten. Kept as they are: what the
// exported types show, what goes over the wire or into storage, what belongs to the language or the host.
import ts from "typescript";

/** Every member declared in these files, but for private ones, has a meaning outside: frames, host objects, the stored record. */
const OUTSIDE = /src\/(protocol\/frames|protocol\/base64|environment|typed|driver\/persistence|msgpack)\.ts$/;
const HIDDEN = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;

export function internalNames(entries) {
  const { config } = ts.readConfigFile("tsconfig.json", ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ".");
  const program = ts.createProgram(entries, { ...options, types: [] });
  const checker = program.getTypeChecker();
  const ours = program.getSourceFiles().filter(({ fileName }) => /(^|\/)src\//.test(fileName) && !fileName.includes("node_modules"));
  const kept = new Set();
  const declared = new Set();

  const hidden = (symbol) =>
    (symbol.declarations ?? []).some((d) => ts.getCombinedModifierFlags(d) & HIDDEN || ts.getJSDocTags(d).some(({ tagName }) => tagName.text === "internal"));
  const seen = new Set();
  const show = (type) => {
    if (!type || seen.has(type)) return;
    seen.add(type);
    (type.types ?? []).forEach(show);
    (type.aliasTypeArguments ?? []).forEach(show);
    if (type.objectFlags & ts.ObjectFlags.Reference) checker.getTypeArguments(type).forEach(show);
    for (const symbol of type.getProperties()) {
      if (hidden(symbol)) continue;
      kept.add(symbol.name);
      if ((symbol.declarations ?? []).some((d) => ours.includes(d.getSourceFile()))) show(checker.getTypeOfSymbol(symbol));
    }
    for (const signature of type.getCallSignatures()) {
      show(signature.getReturnType());
      for (const parameter of signature.getParameters()) show(checker.getTypeOfSymbol(parameter));
    }
  };
  for (const file of ours.filter(({ fileName }) => entries.some((entry) => fileName.endsWith(entry))))
    for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(file))) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      show(checker.getDeclaredTypeOfSymbol(symbol));
      if (symbol.flags & ts.SymbolFlags.Function) show(checker.getTypeOfSymbol(symbol));
    }

  const visit = (file) => (node) => {
    const member = ts.isClassElement(node) || ts.isTypeElement(node) || ts.isPropertyAssignment(node) || ts.isShorthandPropertyAssignment(node) || ts.isParameterPropertyDeclaration(node, node.parent);
    if (member && node.name && ts.isIdentifier(node.name)) (OUTSIDE.test(file.fileName) && !(ts.getCombinedModifierFlags(node) & HIDDEN) ? kept : declared).add(node.name.text);
    if (ts.isStringLiteral(node)) kept.add(node.text);
    if (ts.isPropertyAccessExpression(node) || ts.isBindingElement(node)) {
      const symbol = ts.isBindingElement(node)
        ? checker.getTypeAtLocation(node.parent).getProperty((node.propertyName ?? node.name).text ?? "")
        : checker.getSymbolAtLocation(node.name);
      for (const d of symbol?.declarations ?? []) if (!ours.includes(d.getSourceFile())) kept.add(symbol.name);
    }
    ts.forEachChild(node, visit(file));
  };
  for (const file of ours) visit(file)(file);
  return [...declared].filter((name) => !kept.has(name)).sort();
}
